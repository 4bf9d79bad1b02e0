//! Values for property tests.

use crate::table::{Definition, Field, Scalar, Type};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// JSON of a few levels, without nulls.
pub(crate) fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A made-up object of a type, in which every scalar differs from zero and is valid; equal seeds give equal objects.
pub(crate) fn object_of(definition: &Definition, seed: u64, wanted: fn(&Field) -> bool) -> Value {
    Maker { state: seed | 1, wanted }.object(definition, 6)
}

struct Maker {
    state: u64,
    wanted: fn(&Field) -> bool,
}

impl Maker {
    /// A number below `end`, by xorshift: good enough to vary shapes.
    fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % end
    }

    fn object(&mut self, definition: &Definition, depth: u64) -> Value {
        let mut object = Map::new();
        for field in &definition.fields {
            // One field in a few, or objects would be huge.
            if (self.wanted)(field) && self.below(3) == 0 {
                let value = self.value(&field.ty, depth);
                let is_empty_list = matches!(&value, Value::Array(items) if items.is_empty());
                let is_empty_map = matches!(field.ty, Type::Map(_)) && value == json!({});
                if !is_empty_list && !is_empty_map {
                    object.insert(field.name.to_owned(), value);
                }
            }
        }
        Value::Object(object)
    }

    fn value(&mut self, ty: &Type, depth: u64) -> Value {
        let Some(depth) = depth.checked_sub(1) else {
            return match ty {
                Type::Scalar(scalar) => self.scalar(*scalar),
                Type::List(_) => json!([]),
                Type::Object(_) | Type::Map(_) => json!({}),
            };
        };
        match ty {
            Type::Object(id) => self.object(id.get(), depth),
            Type::List(element) => (0..self.below(3)).map(|_| self.value(element, depth)).collect(),
            Type::Map(value) => {
                let entries = (0..self.below(3)).map(|n| (format!("k{n}"), self.value(value, depth)));
                Value::Object(entries.collect())
            }
            Type::Scalar(scalar) => self.scalar(*scalar),
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        let n = self.below(5) + 1;
        match scalar {
            Scalar::String => format!("s{n}").into(),
            Scalar::Bool => true.into(),
            Scalar::Int32 if n == 1 => i32::MIN.into(),
            Scalar::Int64 if n == 1 => i64::MIN.into(),
            Scalar::Int32 | Scalar::Int64 => n.into(),
            Scalar::Double => json!(0.5),
            Scalar::Bytes => "AP8=".into(),
            Scalar::Time => format!("2026-11-21T00:00:0{n}Z").into(),
            Scalar::MicroTime => format!("2026-11-21T00:00:00.00000{n}Z").into(),
            Scalar::IntOrString if n == 1 => "http".into(),
            Scalar::IntOrString => n.into(),
            Scalar::Quantity => format!("{n}Gi").into(),
            Scalar::Raw => json!({"any": [n, null]}),
            Scalar::Fields => json!({"f:spec": {format!("f:s{n}"): {}}}),
        }
    }
}
