//! Values of expressions.

use super::fold::fold;
use super::number;
use indexmap::IndexMap;
use std::borrow::Cow;
use std::sync::Arc;

/// A value of an expression. Cloning is cheap; arrays and objects are equal only to themselves.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// `null`, also every missing property.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; GitHub knows doubles only.
    Num(f64),
    /// A string.
    Str(Arc<str>),
    /// An array.
    Arr(Arc<Array>),
    /// An object.
    Obj(Arc<Object>),
}

/// The kind of a [`Value`], named as GitHub names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Null`
    Null,
    /// `Boolean`
    Boolean,
    /// `Number`
    Number,
    /// `String`
    String,
    /// `Array`
    Array,
    /// `Object`
    Object,
}

impl Kind {
    /// GitHub's name of the kind; also what an array or object turns into as a string.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Boolean => "Boolean",
            Self::Number => "Number",
            Self::String => "String",
            Self::Array => "Array",
            Self::Object => "Object",
        }
    }
}

impl Value {
    /// A string value.
    #[must_use]
    pub fn str(text: &str) -> Self {
        Self::Str(Arc::from(text))
    }

    /// An array of `items`.
    #[must_use]
    pub fn arr(items: Vec<Value>) -> Self {
        Self::Arr(Arc::new(Array { items, filtered: false }))
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Boolean,
            Self::Num(_) => Kind::Number,
            Self::Str(_) => Kind::String,
            Self::Arr(_) => Kind::Array,
            Self::Obj(_) => Kind::Object,
        }
    }

    /// Is it null, a boolean, a number or a string?
    #[must_use]
    pub const fn is_primitive(&self) -> bool {
        !matches!(self, Self::Arr(_) | Self::Obj(_))
    }

    /// Does it count as true? `null`, `false`, `0`, NaN and `''` do not.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(b) => *b,
            Self::Num(n) => *n != 0.0 && !n.is_nan(),
            Self::Str(s) => !s.is_empty(),
            Self::Arr(_) | Self::Obj(_) => true,
        }
    }

    /// The value as a string: `''` for null, `Array` and `Object` for collections.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Num(n) => Cow::Owned(number::format(*n)),
            Self::Str(s) => Cow::Borrowed(s),
            Self::Arr(_) | Self::Obj(_) => Cow::Borrowed(self.kind().name()),
        }
    }

    /// The value as a number: `0` for null and `''`, NaN for what is no number.
    #[must_use]
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(b) => f64::from(u8::from(*b)),
            Self::Num(n) => *n,
            Self::Str(s) => number::parse(s),
            Self::Arr(_) | Self::Obj(_) => f64::NAN,
        }
    }

    /// The property `key` of an object, if it is one and has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Obj(object) => object.get(key),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Arc::from(text))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Num(value)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Obj(Arc::new(object))
    }
}

/// An array. One that a `*` made applies a further index to each of its items.
#[derive(Clone, Debug, Default)]
pub struct Array {
    pub(super) items: Vec<Value>,
    pub(super) filtered: bool,
}

impl std::ops::Deref for Array {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

/// An object: keys keep their order and are found without regard to case, unless it was made by
/// [`Object::case_sensitive`]. Cloning is cheap; the first change after it is not.
#[derive(Clone, Debug, Default)]
pub struct Object {
    entries: Arc<IndexMap<Arc<str>, Entry>>,
    case_sensitive: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The key as written, when folding changed it.
    written: Option<Arc<str>>,
    value: Value,
}

impl Object {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty object whose keys differ by case, as the `env` context on Linux.
    #[must_use]
    pub fn case_sensitive() -> Self {
        Self { entries: Arc::default(), case_sensitive: true }
    }

    fn key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.case_sensitive { Cow::Borrowed(key) } else { fold(key) }
    }

    /// Sets `key`; a key that is there keeps its place and its spelling.
    pub fn insert(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let folded = self.key(key);
        let entries = Arc::make_mut(&mut self.entries);
        if let Some(entry) = entries.get_mut(folded.as_ref()) {
            entry.value = value;
            return;
        }
        let written = (folded != key).then(|| Arc::from(key));
        entries.insert(Arc::from(folded), Entry { written, value });
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(self.key(key).as_ref()).map(|entry| &entry.value)
    }

    /// How the key that equals `key` is written.
    #[must_use]
    pub fn spelling(&self, key: &str) -> Option<&str> {
        let (folded, entry) = self.entries.get_key_value(self.key(key).as_ref())?;
        Some(entry.written.as_deref().unwrap_or(folded))
    }

    /// Is `key` there?
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let folded = self.key(key).into_owned();
        Arc::make_mut(&mut self.entries).shift_remove(folded.as_str()).map(|entry| entry.value)
    }

    /// Keys as written, with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, entry)| (entry.written.as_deref().unwrap_or(key), &entry.value))
    }

    /// The values in order.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is it empty?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut object = Self::new();
        for (key, value) in entries {
            object.insert(key.as_ref(), value);
        }
        object
    }
}
