//! Chunks as bytes: MessagePack with named maps behind a version byte, compressed where a sample
//! says that it pays.

use std::ops::Range;
use std::sync::Arc;

use zajil_model::message::Chunk;

use super::varint::Reader;
use crate::StoreError;

/// MessagePack as it is.
const PLAIN: u8 = 1;

/// MessagePack compressed by lz4, behind its length.
const LZ4: u8 = 2;

/// A chunk record is at most this long before compression, unless one message alone is longer:
/// a read of one message then costs at most this much.
pub(crate) const CHUNK_LIMIT: usize = 64 * 1024;

/// Shorter chunks are not worth a try.
const COMPRESS_FROM: usize = 1024;

/// How much of a chunk is compressed to see whether it pays.
const SAMPLE: usize = 2 * 1024;

/// A chunk with its bytes.
type Packed = (Arc<Chunk>, Vec<u8>);

/// Cuts a chunk into ones that fit [`CHUNK_LIMIT`], each with its bytes. Ids stay as they are.
pub(super) fn encode(chunk: &Arc<Chunk>) -> Result<Vec<Packed>, StoreError> {
    let mut parts = Vec::with_capacity(1);
    encode_into(Arc::clone(chunk), &mut parts)?;
    Ok(parts)
}

fn encode_into(chunk: Arc<Chunk>, parts: &mut Vec<Packed>) -> Result<(), StoreError> {
    let plain = rmp_serde::to_vec_named(chunk.as_ref())
        .map_err(|_| StoreError::Invalid("a chunk that cannot be encoded"))?;
    if plain.len() > CHUNK_LIMIT && chunk.messages.len() > 1 {
        let half = chunk.messages.len() / 2;
        encode_into(Arc::new(part(&chunk, 0..half)), parts)?;
        return encode_into(Arc::new(part(&chunk, half..chunk.messages.len())), parts);
    }
    parts.push((chunk, pack(plain)));
    Ok(())
}

/// Some messages of a chunk as a chunk of their own, under the same ids.
fn part(chunk: &Chunk, range: Range<usize>) -> Chunk {
    Chunk {
        account: chunk.account,
        instance: chunk.instance,
        queue: chunk.queue,
        first: chunk.id(range.start),
        created_at: chunk.created_at,
        bulk: chunk.bulk,
        request: chunk.request,
        messages: chunk.messages[range].to_vec(),
    }
}

fn pack(plain: Vec<u8>) -> Vec<u8> {
    if pays(&plain) {
        let mut packed = vec![LZ4];
        packed.extend(lz4_flex::compress_prepend_size(&plain));
        return packed;
    }
    let mut packed = Vec::with_capacity(plain.len() + 1);
    packed.push(PLAIN);
    packed.extend(plain);
    packed
}

/// Whether a sample shrinks by a tenth or more.
fn pays(plain: &[u8]) -> bool {
    if plain.len() <= COMPRESS_FROM {
        return false;
    }
    let sample = &plain[..plain.len().min(SAMPLE)];
    lz4_flex::compress(sample).len() * 10 <= sample.len() * 9
}

/// Reads a chunk back.
pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Arc<Chunk>, StoreError> {
    let version = reader.byte()?;
    let body = reader.rest();
    let chunk = match version {
        PLAIN => rmp_serde::from_slice(body),
        LZ4 => {
            let plain = lz4_flex::decompress_size_prepended(body)
                .map_err(|error| reader.fault(error.to_string()))?;
            rmp_serde::from_slice(&plain)
        }
        other => return Err(reader.fault(format!("version {other}"))),
    };
    let chunk: Chunk = chunk.map_err(|error| reader.fault(error.to_string()))?;
    if chunk.is_empty() {
        return Err(reader.fault("a chunk without messages"));
    }
    Ok(Arc::new(chunk))
}
