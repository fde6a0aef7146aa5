//! stub
use std::collections::BTreeMap;
use kvm_bindings::*;
use super::paging::Physical;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)] pub enum Why { PageTable } impl Why { pub fn text(self)->&'static str {""} }
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)] pub struct Kept;
impl Kept { pub fn is_valid(&self,_:u64)->bool{true} pub fn contains(&self,_:u64)->bool{false} pub fn iter(&self)->impl Iterator<Item=(u64,Why)> {std::iter::empty()} pub fn len(&self)->u64{0} pub fn by_reason(&self)->BTreeMap<Why,u64>{BTreeMap::new()} }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Search {Hardware,Shadow,Off}
pub struct Cpu<'a> { pub regs: &'a kvm_regs, pub sregs: &'a kvm_sregs, pub msrs: &'a [(u32,u64)] }
pub fn find(_c:&Cpu<'_>,_m:&dyn Physical,_p:u64,_h:&[u64],_s:Search)->Kept{Kept}
pub fn read_by_kvm(_c:&Cpu<'_>,_m:&dyn Physical)->BTreeMap<u64,Why>{BTreeMap::new()}
pub struct RamView<'a>(pub &'a crate::ram::Ram);
impl Physical for RamView<'_> { fn read(&self,_g:u64,_o:&mut [u8])->bool{false} }
