//! The names that generated modules import in one go.

pub(crate) use bytes::Bytes;
pub(crate) use uuid::Uuid;

pub(crate) use crate::api_key::{ApiKey, VersionRange};
pub(crate) use crate::byte_str::ByteStr;
pub(crate) use crate::coordinator::RecordKey;
pub(crate) use crate::decoder::{DecodeError, Decoder};
pub(crate) use crate::encoder::{EncodeError, Encoder};
pub(crate) use crate::message::{Message, Request, Response};
pub(crate) use crate::wire::{Struct, Wire};
