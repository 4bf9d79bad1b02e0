//! Protobuf request bodies to JSON, by walking the wire format along the schema table (A-038, A-039). It decodes only:
//! answers are always JSON.

use crate::table::{Definition, Field, Kind, Scalar, Type};
use base64::Engine;
use serde_json::{Map, Value};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Messages nested deeper than this are refused: the deepest type of the API has about 20 levels.
const DEEPEST: usize = 64;

/// An object out of a protobuf body.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedProtobuf {
    /// API version from the envelope, such as `apps/v1`.
    pub api_version: String,
    /// Kind from the envelope.
    pub kind: String,
    /// The object as a JSON client would have sent it, `apiVersion` and `kind` included.
    pub value: Value,
}

/// Why a body is not a protobuf object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// It does not begin with the four bytes that mark the format.
    #[error("the body does not begin as application/vnd.kubernetes.protobuf does")]
    NoMagic,
    /// The object in the envelope is compressed or in a format of its own.
    #[error("the protobuf envelope holds {0:?}, which is not supported")]
    Encoding(String),
    /// The table has no such kind, so its fields have no meaning.
    #[error("no protobuf schema for kind {kind:?} in version {api_version:?}")]
    UnknownKind {
        /// API version from the envelope.
        api_version: String,
        /// Kind from the envelope.
        kind: String,
    },
    /// The bytes end early, or do not have the shape of the type.
    #[error("malformed protobuf body: {0}")]
    Malformed(&'static str),
}

use ProtobufError::Malformed;

/// Decodes a body of type `application/vnd.kubernetes.protobuf`.
///
/// Writers put a zero for each scalar that is unset; such a zero is dropped unless the table says that zero has a
/// meaning of its own there. Field numbers that the table does not know are skipped.
///
/// ```
/// let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05\x0a\x03\x0a\x01x";
/// let decoded = minisvc_schema::decode_protobuf(body)?;
/// assert_eq!(decoded.kind, "ConfigMap");
/// assert_eq!(decoded.value["metadata"]["name"], "x");
/// # Ok::<(), minisvc_schema::ProtobufError>(())
/// ```
///
/// # Errors
/// Anything but a well-formed body of a kind in the table.
pub fn decode_protobuf(bytes: &[u8]) -> Result<DecodedProtobuf, ProtobufError> {
    let envelope = Envelope::read(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?)?;
    let Envelope { api_version, kind, raw } = envelope;
    let Some(found) = Kind::find_by_api_version(&api_version, &kind) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.as_str().into());
    object.insert("kind".into(), kind.as_str().into());
    read_message(found.definition(), &mut Vec::new(), raw, &mut object, DEEPEST)?;
    Ok(DecodedProtobuf { api_version, kind, value: Value::Object(object) })
}

/// The message around every object.
#[derive(Default)]
struct Envelope<'b> {
    api_version: String,
    kind: String,
    raw: &'b [u8],
}

impl<'b> Envelope<'b> {
    fn read(bytes: &'b [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Self::default();
        for field in Wire(bytes) {
            match field? {
                (1, meta) => {
                    for field in Wire(meta.bytes()?) {
                        match field? {
                            (1, text) => envelope.api_version = text.text()?.to_owned(),
                            (2, text) => envelope.kind = text.text()?.to_owned(),
                            _ => {}
                        }
                    }
                }
                (2, raw) => envelope.raw = raw.bytes()?,
                (3 | 4, encoding) => match encoding.text()? {
                    "" | "application/vnd.kubernetes.protobuf" => {}
                    other => return Err(ProtobufError::Encoding(other.to_owned())),
                },
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// The value of one field on the wire.
#[derive(Clone, Copy)]
enum Payload<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'b [u8]),
}

impl<'b> Payload<'b> {
    fn bytes(self) -> Result<&'b [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed("a number where text or a message is expected")),
        }
    }

    fn text(self) -> Result<&'b str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text that is not UTF-8"))
    }

    fn integer(self) -> Result<i64, ProtobufError> {
        match self {
            Self::Varint(bits) => Ok(bits.cast_signed()),
            _ => Err(Malformed("no number where one is expected")),
        }
    }
}

/// The fields of a message, one after the other.
struct Wire<'b>(&'b [u8]);

impl<'b> Iterator for Wire<'b> {
    type Item = Result<(u32, Payload<'b>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // Nothing after an error has a meaning.
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Wire<'b> {
    fn field(&mut self) -> Result<(u32, Payload<'b>), ProtobufError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed("a field number that is too large"))?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed("a length that is too large"))?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Fixed32(self.array()?),
            _ => return Err(Malformed("a wire type that is not in use")),
        };
        Ok((number, payload))
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        // Ten bytes of seven bits hold 64 bits.
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number of more than 64 bits"))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed("the bytes end early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed("the bytes end early"))?;
        self.0 = tail;
        Ok(*head)
    }
}

/// Reads a message into the object it describes. `path` holds the numbers of the messages that JSON inlines here.
fn read_message(
    definition: &Definition,
    path: &mut Vec<u32>,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let depth = depth.checked_sub(1).ok_or(Malformed("messages are nested too deeply"))?;
    for field in Wire(bytes) {
        let (number, payload) = field?;
        path.push(number);
        if let Some(field) = definition.fields.iter().find(|f| f.numbers == *path) {
            read_field(field, payload, object, depth)?;
        } else if definition.fields.iter().any(|f| f.numbers.starts_with(path)) {
            read_message(definition, path, payload.bytes()?, object, depth)?;
        }
        path.pop();
    }
    Ok(())
}

fn read_field(
    field: &Field,
    payload: Payload<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    match &field.ty {
        Type::List(element) => {
            let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                read_element(element, payload, list, depth)?;
            }
        }
        Type::Map(value) => {
            let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                read_entry(value, payload, map, depth)?;
            }
        }
        Type::Object(id) => {
            // A message that comes in two parts is one message.
            let part = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(part) = part {
                read_message(id.get(), &mut Vec::new(), payload.bytes()?, part, depth)?;
            }
        }
        Type::Scalar(scalar) => {
            let value = read_scalar(*scalar, payload)?;
            if !value.is_null() && (field.explicit || field.required || !is_zero(&value)) {
                object.insert(field.name.into(), value);
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn read_element(ty: &Type, payload: Payload<'_>, list: &mut Vec<Value>, depth: usize) -> Result<(), ProtobufError> {
    if let (Type::Scalar(scalar @ (Scalar::Bool | Scalar::Int32 | Scalar::Int64)), Payload::Bytes(bytes)) =
        (ty, payload)
    {
        // Some writers pack lists of numbers.
        let mut packed = Wire(bytes);
        while !packed.0.is_empty() {
            list.push(read_scalar(*scalar, Payload::Varint(packed.varint()?))?);
        }
        return Ok(());
    }
    list.push(read_value(ty, payload, depth)?);
    Ok(())
}

/// A map is a list of entries: 1 is the key, 2 the value, and an absent one is empty.
fn read_entry(
    ty: &Type,
    payload: Payload<'_>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let (mut key, mut value) = ("", None);
    for field in Wire(payload.bytes()?) {
        match field? {
            (1, text) => key = text.text()?,
            (2, payload) => value = Some(read_value(ty, payload, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => read_value(ty, Payload::Bytes(&[]), depth)?,
    };
    map.insert(key.to_owned(), value);
    Ok(())
}

/// A value that is not a field: an element of a list or a value of a map.
fn read_value(ty: &Type, payload: Payload<'_>, depth: usize) -> Result<Value, ProtobufError> {
    match ty {
        Type::Scalar(scalar) => read_scalar(*scalar, payload),
        Type::Object(id) => {
            let mut object = Map::new();
            read_message(id.get(), &mut Vec::new(), payload.bytes()?, &mut object, depth)?;
            Ok(Value::Object(object))
        }
        Type::List(element) => {
            // Lists cannot be values; they are wrapped in a message whose field 1 they are.
            let mut list = Vec::new();
            for field in Wire(payload.bytes()?) {
                if let (1, payload) = field? {
                    read_element(element, payload, &mut list, depth)?;
                }
            }
            Ok(Value::Array(list))
        }
        Type::Map(_) => Err(Malformed("a map of maps, which the API does not have")),
    }
}

fn read_scalar(scalar: Scalar, payload: Payload<'_>) -> Result<Value, ProtobufError> {
    Ok(match scalar {
        Scalar::String => payload.text()?.into(),
        Scalar::Bool => (payload.integer()? != 0).into(),
        Scalar::Int32 => {
            i32::try_from(payload.integer()?).map_err(|_| Malformed("a number of more than 32 bits"))?.into()
        }
        Scalar::Int64 => payload.integer()?.into(),
        Scalar::Double => match payload {
            Payload::Fixed64(bytes) => f64::from_le_bytes(bytes).into(),
            Payload::Fixed32(bytes) => f64::from(f32::from_le_bytes(bytes)).into(),
            _ => return Err(Malformed("no fraction where one is expected")),
        },
        Scalar::Bytes => base64::engine::general_purpose::STANDARD.encode(payload.bytes()?).into(),
        Scalar::Time => read_time(payload, 0)?,
        Scalar::MicroTime => read_time(payload, 6)?,
        Scalar::IntOrString => read_int_or_string(payload)?,
        Scalar::Quantity => match first(payload)? {
            Some(text) => text.text()?.into(),
            None => "".into(),
        },
        Scalar::Raw | Scalar::Fields => match first(payload)? {
            Some(json) if !json.bytes()?.is_empty() => {
                serde_json::from_slice(json.bytes()?).map_err(|_| Malformed("embedded bytes that are not JSON"))?
            }
            _ => Value::Null,
        },
    })
}

/// Field 1 of a message that wraps one value.
fn first(payload: Payload<'_>) -> Result<Option<Payload<'_>>, ProtobufError> {
    let mut found = None;
    for field in Wire(payload.bytes()?) {
        if let (1, payload) = field? {
            found = Some(payload);
        }
    }
    Ok(found)
}

/// 1 is the seconds since 1970, 2 the nanoseconds; zero is no time.
fn read_time(payload: Payload<'_>, digits: usize) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Wire(payload.bytes()?) {
        match field? {
            (1, number) => seconds = number.integer()?,
            (2, number) => nanos = number.integer()?,
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| Malformed("a time out of range"))?;
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| Malformed("a time out of range"))?;
    Ok(match digits {
        0 => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
    }
    .into())
}

/// 1 tells a number (0) from text (1), 2 is the number, 3 the text.
fn read_int_or_string(payload: Payload<'_>) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for field in Wire(payload.bytes()?) {
        match field? {
            (1, ty) => is_text = ty.integer()? == 1,
            (2, payload) => number = payload.integer()?,
            (3, payload) => text = payload.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
