//! How each type lies on the wire; generated structs implement [`Wire`] by their fields.

use bytes::Bytes;
use uuid::Uuid;

use crate::{ByteStr, DecodeError, Decoder, EncodeError, Encoder};

/// A value that can be read and written at a message version. Whether the encoding is the compact one is a state of
/// the decoder or encoder, since it is the same for a whole message.
pub trait Wire: Sized {
    fn read(d: &mut Decoder, v: i16) -> Result<Self, DecodeError>;
    fn write(&self, e: &mut Encoder, v: i16) -> Result<(), EncodeError>;
    /// The least bytes a value takes.
    fn min_size(v: i16, flexible: bool) -> usize;
}

/// A generated struct.
pub(crate) trait Struct: Wire {}

/// A type that has a null on the wire.
pub(crate) trait Nullable: Wire {
    fn read_nullable(d: &mut Decoder, v: i16) -> Result<Option<Self>, DecodeError>;
    fn write_null(e: &mut Encoder);
    /// Writes a value that may be null in this version; the same as `write` but for structs.
    fn write_present(&self, e: &mut Encoder, v: i16) -> Result<(), EncodeError> {
        self.write(e, v)
    }
}

macro_rules! fixed_size {
    ($($ty:ty, $method:ident, $size:literal;)*) => {$(
        impl Wire for $ty {
            fn read(d: &mut Decoder, _: i16) -> Result<Self, DecodeError> {
                d.$method()
            }

            fn write(&self, e: &mut Encoder, _: i16) -> Result<(), EncodeError> {
                e.$method(*self);
                Ok(())
            }

            fn min_size(_: i16, _: bool) -> usize {
                $size
            }
        }
    )*};
}

// The types that occur as array elements; single fields call the decoder and encoder directly.
fixed_size! {
    i8, i8, 1;
    i16, i16, 2;
    i32, i32, 4;
    i64, i64, 8;
    Uuid, uuid, 16;
}

macro_rules! by_nullable {
    () => {
        fn read(d: &mut Decoder, v: i16) -> Result<Self, DecodeError> {
            Self::read_nullable(d, v)?.ok_or(DecodeError::UnexpectedNull)
        }
    };
}

impl Wire for ByteStr {
    by_nullable!();

    fn write(&self, e: &mut Encoder, _: i16) -> Result<(), EncodeError> {
        e.string(self)
    }

    fn min_size(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 2 }
    }
}

impl Nullable for ByteStr {
    fn read_nullable(d: &mut Decoder, _: i16) -> Result<Option<Self>, DecodeError> {
        d.nullable_string()
    }

    fn write_null(e: &mut Encoder) {
        e.null_string();
    }
}

impl Wire for Bytes {
    by_nullable!();

    fn write(&self, e: &mut Encoder, _: i16) -> Result<(), EncodeError> {
        e.bytes(self)
    }

    fn min_size(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

impl Nullable for Bytes {
    fn read_nullable(d: &mut Decoder, _: i16) -> Result<Option<Self>, DecodeError> {
        d.long_len()?.map(|len| d.take(len)).transpose()
    }

    fn write_null(e: &mut Encoder) {
        e.null_long();
    }
}

impl<T: Wire> Wire for Vec<T> {
    by_nullable!();

    fn write(&self, e: &mut Encoder, v: i16) -> Result<(), EncodeError> {
        e.long_len(self.len())?;
        self.iter().try_for_each(|element| element.write(e, v))
    }

    fn min_size(_: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(d: &mut Decoder, v: i16) -> Result<Option<Self>, DecodeError> {
        d.long_len()?.map(|count| d.elements(count, v)).transpose()
    }

    fn write_null(e: &mut Encoder) {
        e.null_long();
    }
}

/// A nullable struct has a byte in front: negative for null.
impl<T: Struct> Nullable for T {
    fn read_nullable(d: &mut Decoder, v: i16) -> Result<Option<Self>, DecodeError> {
        if d.i8()? < 0 {
            Ok(None)
        } else {
            Self::read(d, v).map(Some)
        }
    }

    fn write_null(e: &mut Encoder) {
        e.i8(-1);
    }

    fn write_present(&self, e: &mut Encoder, v: i16) -> Result<(), EncodeError> {
        e.i8(1);
        self.write(e, v)
    }
}

impl Decoder {
    pub(crate) fn nullable<T: Nullable>(&mut self, v: i16) -> Result<Option<T>, DecodeError> {
        T::read_nullable(self, v)
    }

    /// A field that may be null only in some versions.
    pub(crate) fn nullable_if<T: Nullable>(
        &mut self,
        v: i16,
        allowed: bool,
    ) -> Result<Option<T>, DecodeError> {
        if allowed {
            T::read_nullable(self, v)
        } else {
            T::read(self, v).map(Some)
        }
    }

    /// In a tagged field Kafka writes a null struct as a zero byte.
    pub(crate) fn tagged_nullable_struct<T: Struct>(&mut self, v: i16) -> Result<Option<T>, DecodeError> {
        if self.i8()? <= 0 {
            Ok(None)
        } else {
            T::read(self, v).map(Some)
        }
    }
}

impl Encoder {
    pub(crate) fn nullable<T: Nullable>(&mut self, value: Option<&T>, v: i16) -> Result<(), EncodeError> {
        match value {
            Some(value) => value.write_present(self, v),
            None => {
                T::write_null(self);
                Ok(())
            }
        }
    }

    /// A field that may be null only in some versions.
    pub(crate) fn nullable_if<T: Nullable>(
        &mut self,
        value: Option<&T>,
        v: i16,
        allowed: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            value if allowed => self.nullable(value, v),
            Some(value) => value.write(self, v),
            None => Err(EncodeError::Null { field, version: v }),
        }
    }

    /// In a tagged field Kafka writes a null struct as a zero byte.
    pub(crate) fn tagged_nullable_struct<T: Struct>(
        &mut self,
        value: Option<&T>,
        v: i16,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => value.write_present(self, v),
            None => {
                self.i8(0);
                Ok(())
            }
        }
    }
}
