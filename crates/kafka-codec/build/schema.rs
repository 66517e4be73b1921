//! The schema of a message: versions, fields, types, and the structs it is made of.

/// An inclusive range of versions; empty when `min > max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { min: 0, max: -1 };

    pub(crate) fn is_empty(self) -> bool {
        self.min > self.max
    }

    pub(crate) fn and(self, other: Self) -> Self {
        let both = Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        };
        if both.is_empty() { Self::NONE } else { both }
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// When a version out of `known` lies in this range, as Rust.
    pub(crate) fn condition(self, known: Self) -> Condition {
        let both = self.and(known);
        if both.is_empty() {
            return Condition::Never;
        }
        match (both.min > known.min, both.max < known.max) {
            (false, false) => Condition::Always,
            (true, false) => Condition::When(format!("v >= {}", both.min)),
            (false, true) => Condition::When(format!("v <= {}", both.max)),
            (true, true) => Condition::When(format!("({}..={}).contains(&v)", both.min, both.max)),
        }
    }
}

/// Whether something holds for the version `v` of the generated code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Always,
    Never,
    When(String),
}

impl Condition {
    /// The condition as a boolean expression.
    pub(crate) fn expression(&self) -> &str {
        match self {
            Self::Always => "true",
            Self::Never => "false",
            Self::When(test) => test,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) default: Option<String>,
    pub(crate) tag: Option<(u32, Versions)>,
    pub(crate) ignorable: bool,
    /// Never in the compact encoding, whatever the message's version (`flexible none`).
    pub(crate) classic: bool,
}

/// One struct: the message itself or one nested in it.
#[derive(Clone, Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    /// The versions of the message in which it can occur.
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    Data,
    CoordinatorKey,
    CoordinatorValue,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) key: Option<i16>,
    pub(crate) versions: Versions,
    pub(crate) flexible: Versions,
    pub(crate) latest_unstable: bool,
    pub(crate) listeners: Vec<String>,
    /// The message's own struct first.
    pub(crate) structs: Vec<Struct>,
}

impl Message {
    pub(crate) fn struct_named(&self, name: &str) -> Result<&Struct, String> {
        let found = self.structs.iter().find(|s| s.name == name);
        found.ok_or_else(|| format!("{}: no struct {name}", self.name))
    }
}

impl Struct {
    /// Versions in which the field exists.
    pub(crate) fn present(&self, field: &Field) -> Versions {
        field.versions.and(self.versions)
    }

    /// Versions in which the field lies in the tagged section.
    pub(crate) fn tagged(&self, field: &Field) -> Versions {
        field
            .tag
            .map_or(Versions::NONE, |(_, versions)| versions.and(self.present(field)))
    }

    /// Whether the field may be null in some version, so that its Rust type is an `Option`.
    pub(crate) fn optional(&self, field: &Field) -> bool {
        !field.nullable.and(self.present(field)).is_empty()
    }
}
