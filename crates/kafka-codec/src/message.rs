//! The traits of generated messages.

use std::fmt::Debug;

use crate::wire::Wire;
use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, VersionRange};

/// A message of the protocol.
pub trait Message: Wire + Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// Kafka's name for the schema, e.g. `FetchRequest`.
    const NAME: &'static str;
    /// The versions that can be encoded and decoded.
    const VERSIONS: VersionRange;
    /// The first version in compact encoding with tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads a message at `version`.
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(version) {
            return Err(DecodeError::UnsupportedVersion {
                message: Self::NAME,
                version,
            });
        }
        decoder.set_flexible(version >= Self::FLEXIBLE_FROM);
        Self::read(decoder, version)
    }

    /// Appends the message at `version`. After an error the encoder's content is of no use.
    fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        if !Self::VERSIONS.contains(version) {
            return Err(EncodeError::UnsupportedVersion {
                message: Self::NAME,
                version,
            });
        }
        encoder.set_flexible(version >= Self::FLEXIBLE_FROM);
        self.write(encoder, version)
    }
}

/// A request, with the response it is answered by.
pub trait Request: Message {
    /// The API it belongs to.
    const KEY: ApiKey;
    /// Its answer, at the same version.
    type Response: Response<Request = Self>;
}

/// A response, with the request it answers.
pub trait Response: Message {
    /// The API it belongs to.
    const KEY: ApiKey;
    /// What it answers, at the same version.
    type Request: Request<Response = Self>;

    /// Visits every error code in it, also those of parts without an error (Kafka's `errorCounts`).
    fn error_codes(&self, visit: &mut dyn FnMut(i16));
}
