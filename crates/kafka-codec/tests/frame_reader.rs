//! The frame reader: limits, growth, and frames cut out of a stream.

use strom_kafka_codec::messages::MetadataRequest;
use strom_kafka_codec::{
    DecodeError, FrameError, FrameReader, RequestError, RequestFrame, encode_request_frame,
};

const LIMIT: usize = 100 * 1024 * 1024;

/// Feeds `bytes` as a socket would: no more at once than there is room for.
fn feed(reader: &mut FrameReader, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let buffer = reader.buffer_mut();
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "the buffer has room");
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        buffer.extend_from_slice(now);
        bytes = later;
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len())
        .expect("a short body")
        .to_be_bytes()
        .to_vec();
    frame.extend_from_slice(body);
    frame
}

#[test]
fn impossible_lengths_are_refused_on_sight() {
    let refuse = |length: i32| {
        let mut reader = FrameReader::new(LIMIT);
        feed(&mut reader, &length.to_be_bytes());
        assert!(
            reader.buffer_mut().capacity() <= 8192,
            "no allocation for {length}"
        );
        reader.next_frame()
    };
    let limit = LIMIT;
    assert_eq!(refuse(-1), Err(FrameError::Negative(-1)));
    assert_eq!(refuse(i32::MIN), Err(FrameError::Negative(i32::MIN)));
    assert_eq!(
        refuse(i32::MAX),
        Err(FrameError::TooLarge {
            len: 0x7fff_ffff,
            limit
        })
    );
    assert_eq!(
        refuse(LIMIT as i32 + 1),
        Err(FrameError::TooLarge {
            len: LIMIT + 1,
            limit
        })
    );
    assert_eq!(refuse(LIMIT as i32), Ok(None));
    // An empty frame is a frame, and no request.
    let empty = refuse(0).unwrap().unwrap();
    assert!(matches!(
        RequestFrame::decode(empty),
        Err(RequestError::Malformed(_))
    ));
}

#[test]
fn other_protocols_are_refused_at_once() {
    for hello in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut reader = FrameReader::new(LIMIT);
        feed(&mut reader, hello);
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLarge { .. })));
    }
}

#[test]
fn a_large_announcement_allocates_as_bytes_arrive() {
    let mut reader = FrameReader::new(LIMIT);
    feed(&mut reader, &(LIMIT as i32).to_be_bytes());
    for received in 5..200_000 {
        feed(&mut reader, &[0]);
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(reader.partial_len(), received);
        assert!(
            reader.buffer_mut().capacity() <= 2 * received + 16 * 1024,
            "after {received} bytes"
        );
    }
}

#[test]
fn frames_come_out_as_they_went_in() {
    let bodies: Vec<Vec<u8>> = [0, 1, 3, 4096, 70_000, 5, 300_000, 2]
        .iter()
        .map(|len| vec![*len as u8; *len])
        .collect();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
    for step in [1, 7, 1000, 65_536, stream.len()] {
        let mut reader = FrameReader::new(LIMIT);
        let mut frames = Vec::new();
        for part in stream.chunks(step) {
            feed(&mut reader, part);
            while let Some(frame) = reader.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, bodies, "in steps of {step}");
        assert_eq!(reader.partial_len(), 0);
    }
}

#[test]
fn a_large_frame_is_not_copied_time_and_again() {
    // Once frames of a size have come, the next one is read into one block: its bytes do not move after the first
    // read. (The second frame still uses up what doubling left over.)
    let mut reader = FrameReader::new(LIMIT);
    let frame = framed(&vec![1; 1_000_000]);
    let mut earlier = Vec::new();
    for _ in 0..2 {
        feed(&mut reader, &frame);
        earlier.extend(reader.next_frame().unwrap());
    }
    feed(&mut reader, &frame[..100_000]);
    let before = reader.buffer_mut().as_ptr();
    feed(&mut reader, &frame[100_000..]);
    let body = reader.next_frame().unwrap().unwrap();
    assert_eq!(
        body.as_ptr(),
        before.wrapping_add(4),
        "cut out of the buffer without a copy"
    );
}

#[test]
fn what_a_frame_begins_with_is_known_before_the_rest() {
    let mut reader = FrameReader::new(LIMIT);
    let frame = framed(&[&[0, 3, 0, 12], vec![1; 65 * 1024].as_slice()].concat());
    feed(&mut reader, &frame[..7]);
    assert_eq!(reader.begun(), None);
    feed(&mut reader, &frame[7..8]);
    assert_eq!(reader.begun(), Some((4 + 65 * 1024, 3, 12)));
    assert_eq!(reader.next_frame(), Ok(None));
}

#[test]
fn the_next_frame_is_not_misread_after_a_body_of_another_length() {
    let sent = encode_request_frame(1, 4, None, &MetadataRequest::default())
        .unwrap()
        .into_contiguous();
    let whole = sent.slice(4..);
    let mut long = whole.to_vec();
    long.push(0);
    let mut stream = framed(&long);
    stream.extend(framed(&whole[..whole.len() - 1]));
    stream.extend(framed(&whole));
    let mut reader = FrameReader::new(LIMIT);
    feed(&mut reader, &stream);
    let mut outcomes = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        let RequestFrame { header, mut body, .. } = RequestFrame::decode(frame).unwrap();
        outcomes.push(
            body.message::<MetadataRequest>(header.request_api_version)
                .and_then(|_| body.finish()),
        );
    }
    let too_short = DecodeError::UnexpectedEnd {
        needed: 1,
        remaining: 0,
    };
    assert_eq!(
        outcomes,
        [Err(DecodeError::TrailingBytes(1)), Err(too_short), Ok(())]
    );
}
