//! The shape of a serialised value: its numbers, texts, sequences and variants, as a tree that can be changed
//! and still decodes, mostly.

use serde::ser::{self, Serialize};

use crate::harness::Draw;

/// A value, as the snapshots' codec lays it out: little-endian, fixed width.
#[derive(Clone, Debug)]
pub enum Node {
    /// A number of so many bytes.
    Number(u64, usize),
    /// What has no meaning to change here: floating-point numbers, 128 bits.
    Bytes(Vec<u8>),
    /// A text.
    Text(Vec<u8>),
    /// `None`, or a value.
    Option(Option<Box<Node>>),
    /// As many as the length says.
    Sequence(Vec<Node>),
    /// Keys and values.
    Map(Vec<(Node, Node)>),
    /// Fields, one after the other.
    Fields(&'static str, Vec<Node>),
    /// A variant with its content.
    Variant(u32, Box<Node>),
}

impl Node {
    /// The shape of a value.
    pub fn of(value: &impl Serialize) -> Node {
        value.serialize(Shaper).expect("every type has a shape")
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    fn put(&self, out: &mut Vec<u8>) {
        let len = |out: &mut Vec<u8>, len: usize| out.extend((len as u64).to_le_bytes());
        match self {
            Node::Number(value, width) => out.extend(&value.to_le_bytes()[..*width]),
            Node::Bytes(bytes) => out.extend(bytes),
            Node::Text(bytes) => {
                len(out, bytes.len());
                out.extend(bytes);
            }
            Node::Option(None) => out.push(0),
            Node::Option(Some(value)) => {
                out.push(1);
                value.put(out);
            }
            Node::Sequence(items) => {
                len(out, items.len());
                items.iter().for_each(|item| item.put(out));
            }
            Node::Map(items) => {
                len(out, items.len());
                items.iter().for_each(|(key, value)| {
                    key.put(out);
                    value.put(out);
                });
            }
            Node::Fields(_, items) => items.iter().for_each(|item| item.put(out)),
            Node::Variant(number, content) => {
                out.extend(number.to_le_bytes());
                content.put(out);
            }
        }
    }

    /// How many nodes there are. Long runs of bytes count as a few.
    fn count(&self) -> usize {
        1 + match self {
            Node::Option(Some(value)) | Node::Variant(_, value) => value.count(),
            Node::Sequence(items) if items.len() > 64 && matches!(items[0], Node::Number(_, 1)) => 8,
            Node::Sequence(items) | Node::Fields(_, items) => items.iter().map(Node::count).sum(),
            Node::Map(items) => items.iter().map(|(key, value)| key.count() + value.count()).sum(),
            _ => 0,
        }
    }

    /// Visits the node with this number.
    fn visit<T>(&mut self, number: &mut usize, visit: &mut impl FnMut(&mut Node) -> T) -> Option<T> {
        if *number == 0 {
            return Some(visit(self));
        }
        *number -= 1;
        match self {
            Node::Option(Some(value)) | Node::Variant(_, value) => value.visit(number, visit),
            Node::Sequence(items) if items.len() > 64 && matches!(items[0], Node::Number(_, 1)) => {
                if *number < 8 {
                    let at = *number * items.len() / 8;
                    return Some(visit(&mut items[at]));
                }
                *number -= 8;
                None
            }
            Node::Sequence(items) | Node::Fields(_, items) => {
                items.iter_mut().find_map(|item| item.visit(number, visit))
            }
            Node::Map(items) => items
                .iter_mut()
                .find_map(|(key, value)| key.visit(number, visit).or_else(|| value.visit(number, visit))),
            _ => None,
        }
    }

    /// Changes some of the nodes.
    pub fn lie(&mut self, draw: &mut Draw) {
        for _ in 0..1 + draw.below(3) {
            let count = self.count();
            // Something from elsewhere, to be put where it may fit.
            let mut from = draw.below(count);
            let other = self.visit(&mut from, &mut |node| node.clone());
            let mut at = draw.below(count);
            self.visit(&mut at, &mut |node| node.change(draw, other.as_ref()));
        }
    }

    fn change(&mut self, draw: &mut Draw, other: Option<&Node>) {
        match self {
            Node::Number(value, width) => {
                let other = match other {
                    Some(Node::Number(other, _)) if draw.once_in(2) => {
                        other.wrapping_add(draw.below(3) as u64).wrapping_sub(1)
                    }
                    _ => draw.number(*value),
                };
                *value = other & (u64::MAX >> (64 - 8 * *width as u32));
            }
            Node::Bytes(bytes) => draw.spoil(bytes),
            Node::Text(bytes) => match draw.below(3) {
                0 => bytes.clear(),
                1 => *bytes = bytes.repeat(1 + draw.below(300)),
                _ => bytes.iter_mut().for_each(|byte| *byte ^= 1),
            },
            Node::Option(value) => {
                *value = match other {
                    Some(Node::Option(other)) => other.clone(),
                    _ => None,
                };
            }
            Node::Sequence(items) => change_items(items, draw),
            Node::Map(items) => change_items(items, draw),
            Node::Fields(name, items) => match other {
                Some(Node::Fields(other, fields)) if name == other => items.clone_from(fields),
                _ => {
                    let at = draw.below(items.len());
                    if let Some(item) = items.get_mut(at) {
                        item.change(draw, None);
                    }
                }
            },
            Node::Variant(number, content) => match other {
                Some(Node::Variant(other, same)) if draw.once_in(2) => {
                    (*number, *content) = (*other, same.clone())
                }
                _ => *number = draw.below(12) as u32,
            },
        }
    }
}

/// More, fewer, or others.
fn change_items<T: Clone>(items: &mut Vec<T>, draw: &mut Draw) {
    if items.is_empty() {
        return;
    }
    let (at, to) = (draw.below(items.len()), draw.below(items.len()));
    match draw.below(6) {
        0 => drop(items.remove(at)),
        1 => items.clear(),
        2 => items.swap(at, to),
        3 => items.truncate(at),
        4 => {
            let more = vec![items[at].clone(); 1 + draw.below(2000)];
            items.extend(more);
        }
        _ => {
            let again = items[at].clone();
            items.insert(to, again);
        }
    }
}

/// Makes the tree.
struct Shaper;

/// The parts of a value under construction.
struct Parts {
    name: &'static str,
    variant: Option<u32>,
    length: bool,
    items: Vec<Node>,
    key: Option<Node>,
    map: Option<Vec<(Node, Node)>>,
}

impl Parts {
    fn new(name: &'static str) -> Parts {
        Parts { name, variant: None, length: false, items: Vec::new(), key: None, map: None }
    }

    fn done(self) -> Result<Node, Never> {
        let node = match (self.map, self.length) {
            (Some(map), _) => Node::Map(map),
            (None, true) => Node::Sequence(self.items),
            (None, false) => Node::Fields(self.name, self.items),
        };
        Ok(match self.variant {
            Some(number) => Node::Variant(number, Box::new(node)),
            None => node,
        })
    }
}

/// What cannot go wrong.
#[derive(Debug)]
pub struct Never(String);

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: std::fmt::Display>(text: T) -> Never {
        Never(text.to_string())
    }
}

macro_rules! numbers {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, value: $type) -> Result<Node, Never> {
            Ok(Node::Number(value as u64, size_of::<$type>()))
        })*
    };
}

impl ser::Serializer for Shaper {
    type Ok = Node;
    type Error = Never;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    numbers! {
        serialize_bool: bool, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64
    }

    fn serialize_u128(self, value: u128) -> Result<Node, Never> {
        Ok(Node::Bytes(value.to_le_bytes().to_vec()))
    }
    fn serialize_i128(self, value: i128) -> Result<Node, Never> {
        Ok(Node::Bytes(value.to_le_bytes().to_vec()))
    }
    fn serialize_f32(self, value: f32) -> Result<Node, Never> {
        Ok(Node::Bytes(value.to_le_bytes().to_vec()))
    }
    fn serialize_f64(self, value: f64) -> Result<Node, Never> {
        Ok(Node::Bytes(value.to_le_bytes().to_vec()))
    }
    fn serialize_char(self, value: char) -> Result<Node, Never> {
        Ok(Node::Bytes(value.to_string().into_bytes()))
    }
    fn serialize_str(self, value: &str) -> Result<Node, Never> {
        Ok(Node::Text(value.as_bytes().to_vec()))
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Node, Never> {
        Ok(Node::Text(value.to_vec()))
    }
    fn serialize_none(self) -> Result<Node, Never> {
        Ok(Node::Option(None))
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Node, Never> {
        Ok(Node::Option(Some(Box::new(value.serialize(Shaper)?))))
    }
    fn serialize_unit(self) -> Result<Node, Never> {
        Ok(Node::Fields("", Vec::new()))
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<Node, Never> {
        Ok(Node::Fields(name, Vec::new()))
    }
    fn serialize_unit_variant(self, name: &'static str, number: u32, _: &'static str) -> Result<Node, Never> {
        Ok(Node::Variant(number, Box::new(Node::Fields(name, Vec::new()))))
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Node, Never> {
        value.serialize(Shaper)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        number: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Node, Never> {
        Ok(Node::Variant(number, Box::new(value.serialize(Shaper)?)))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Never> {
        Ok(Parts { length: true, ..Parts::new("") })
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts, Never> {
        Ok(Parts::new(""))
    }
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts, Never> {
        Ok(Parts::new(name))
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        number: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, Never> {
        Ok(Parts { variant: Some(number), ..Parts::new(name) })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Never> {
        Ok(Parts { map: Some(Vec::new()), ..Parts::new("") })
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts, Never> {
        Ok(Parts::new(name))
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        number: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts, Never> {
        Ok(Parts { variant: Some(number), ..Parts::new(name) })
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! collects {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for Parts {
            type Ok = Node;
            type Error = Never;
            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Never> {
                self.items.push(value.serialize(Shaper)?);
                Ok(())
            }
            fn end(self) -> Result<Node, Never> {
                self.done()
            }
        })*
    };
}

macro_rules! collects_fields {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Parts {
            type Ok = Node;
            type Error = Never;
            fn serialize_field<T: ?Sized + Serialize>(&mut self, _: &'static str, value: &T) -> Result<(), Never> {
                self.items.push(value.serialize(Shaper)?);
                Ok(())
            }
            fn end(self) -> Result<Node, Never> {
                self.done()
            }
        })*
    };
}

collects!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);
collects_fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Parts {
    type Ok = Node;
    type Error = Never;
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Never> {
        self.key = Some(key.serialize(Shaper)?);
        Ok(())
    }
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Never> {
        let value = value.serialize(Shaper)?;
        let key = self.key.take().expect("a key comes first");
        self.map.get_or_insert_default().push((key, value));
        Ok(())
    }
    fn end(self) -> Result<Node, Never> {
        self.done()
    }
}
