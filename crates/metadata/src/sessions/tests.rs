//! Tests of broker sessions: expiry, evidence of death, changes of the leader.

use super::*;
use crate::testing::{TestBroker, image_with_brokers};

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

fn epoch_of(image: &Image, id: i32) -> BrokerEpoch {
    image.broker(BrokerId(id)).expect("registered").epoch
}

fn sessions(image: &Image, now: Mono) -> BrokerSessions {
    let mut sessions = BrokerSessions::new(Duration::from_secs(6));
    sessions.restart(image, now);
    sessions
}

#[test]
fn a_new_leader_gives_full_sessions_and_silence_ends_them_one_by_one() {
    let image = image_with_brokers(&[1, 2].map(TestBroker::active));
    let mut sessions = sessions(&image, at(1_000));
    assert_eq!(sessions.next_to_fence(&image, at(6_999)), None);
    assert_eq!(sessions.next_expiry(&image), Some(at(7_000)));
    sessions.contact(BrokerId(1), epoch_of(&image, 1), MetadataOffset(3), at(2_000));
    assert_eq!(
        sessions.next_to_fence(&image, at(7_000)),
        Some((BrokerId(2), epoch_of(&image, 2)))
    );
    // Both are over now: the longest silent first.
    assert_eq!(
        sessions.next_to_fence(&image, at(60_000)).map(|(id, _)| id),
        Some(BrokerId(2))
    );
    // A heartbeat that waited in a queue counts as contact.
    sessions.contact(BrokerId(2), epoch_of(&image, 2), MetadataOffset(3), at(60_000));
    sessions.contact(BrokerId(1), epoch_of(&image, 1), MetadataOffset(3), at(60_000));
    assert_eq!(sessions.next_to_fence(&image, at(60_001)), None);
}

#[test]
fn a_dead_process_is_fenced_at_once() {
    let image = image_with_brokers(&[1, 2].map(TestBroker::active));
    let mut sessions = sessions(&image, at(0));
    sessions.mark_dead(BrokerId(2), BrokerEpoch(999));
    assert_eq!(sessions.next_to_fence(&image, at(1)), None, "another life");
    sessions.mark_dead(BrokerId(2), epoch_of(&image, 2));
    assert_eq!(
        sessions.next_to_fence(&image, at(1)).map(|(id, _)| id),
        Some(BrokerId(2))
    );
    assert!(!sessions.is_alive(BrokerId(2), epoch_of(&image, 2), at(1)));
    sessions.contact(BrokerId(2), epoch_of(&image, 2), MetadataOffset(0), at(2));
    assert_eq!(sessions.next_to_fence(&image, at(3)), None, "it spoke after all");
}

#[test]
fn fenced_brokers_have_no_session_to_lose() {
    let image = image_with_brokers(&[TestBroker::fenced(1)]);
    let mut sessions = sessions(&image, at(0));
    let epoch = epoch_of(&image, 1);
    assert!(!sessions.is_alive(BrokerId(1), epoch, at(0)));
    sessions.contact(BrokerId(1), epoch, MetadataOffset(0), at(5));
    assert!(sessions.is_alive(BrokerId(1), epoch, at(6)));
    assert_eq!(sessions.next_to_fence(&image, at(100_000)), None);
    assert_eq!(sessions.next_expiry(&image), None);
}

#[test]
fn sessions_follow_registrations() {
    let image = image_with_brokers(&[1, 2].map(TestBroker::active));
    let mut sessions = sessions(&image, at(0));
    sessions.contact(BrokerId(1), epoch_of(&image, 1), MetadataOffset(7), at(1));
    assert_eq!(
        sessions.lowest_applied(&image, BrokerId(2)),
        Some(MetadataOffset(7))
    );
    assert_eq!(
        sessions.lowest_applied(&image, BrokerId(1)),
        Some(MetadataOffset(0))
    );
    let one = image_with_brokers(&[TestBroker::active(1)]);
    sessions.follow(&one, at(2));
    assert!(!sessions.is_alive(BrokerId(2), epoch_of(&image, 2), at(2)));
    assert_eq!(sessions.lowest_applied(&one, BrokerId(1)), None);
}

#[test]
fn a_controller_that_was_away_fences_nobody_for_it() {
    let image = image_with_brokers(&[1, 2].map(TestBroker::active));
    let mut sessions = sessions(&image, at(0));
    sessions.mark_dead(BrokerId(2), epoch_of(&image, 2));
    sessions.grant_full_sessions(at(60_000));
    assert_eq!(
        sessions.next_to_fence(&image, at(60_000)).map(|(id, _)| id),
        Some(BrokerId(2))
    );
    assert!(sessions.is_alive(BrokerId(1), epoch_of(&image, 1), at(65_999)));
}
