//! stub
pub trait Physical { fn read(&self, gpa: u64, out: &mut [u8]) -> bool; }
pub struct Paging;
impl Paging { pub fn of(_s: &kvm_bindings::kvm_sregs)->Paging {Paging} pub fn translate(&self, _m: &dyn Physical, l: u64)->Option<u64>{Some(l)} }
