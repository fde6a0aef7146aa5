//! What is put into a program's code while it runs, and what goes by it.

mod bytecode;
mod condition;

pub use bytecode::ConditionError;
pub use condition::Condition;
