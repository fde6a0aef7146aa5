//! What is put into a program's code while it runs, and what goes by it.
//!
//! A breakpoint with a [condition](Condition) that is passed a million times must not cost a million exits. While a
//! debugger has such ones, the handler of breakpoints at CPL 3 ([`crate::program::entry`]) begins with
//! code (`sites`) that knows them, runs the condition, and where that does not hold goes on with a copy of the
//! instruction. What it cannot do, it leaves to the monitor.

mod bytecode;
mod compile;
mod condition;
mod relocate;
mod sites;

pub use bytecode::ConditionError;
pub use condition::Condition;
pub(crate) use sites::{Place, Site, Sites, pop_all, push_others, restore};
