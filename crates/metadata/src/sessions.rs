//! Which brokers are alive: the active controller's soft state, fed by heartbeats and by evidence of death.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use strom_types::{BrokerEpoch, BrokerId, MetadataOffset, Mono};

use crate::image::Image;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Session {
    epoch: BrokerEpoch,
    contact: Mono,
    /// The process is known to be gone: the session need not run out.
    dead: bool,
    /// How far the broker has applied the metadata log.
    applied: MetadataOffset,
}

/// Sessions of registered brokers. Not replicated: a new leader gives every serving broker a full session, as it
/// does not know when the broker last reported (and the broker's own lease counts from the sending of the last
/// heartbeat that was answered, thus ends no later).
#[derive(Clone, Debug)]
pub struct BrokerSessions {
    timeout: Duration,
    sessions: BTreeMap<BrokerId, Session>,
}

impl BrokerSessions {
    pub fn new(timeout: Duration) -> Self {
        BrokerSessions {
            timeout,
            sessions: BTreeMap::new(),
        }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// This controller became the leader: only brokers in service have sessions, full ones.
    pub fn restart(&mut self, image: &Image, now: Mono) {
        self.sessions.clear();
        for broker in image.live_brokers() {
            self.sessions.insert(broker.id, Session::new(broker.epoch, now));
        }
    }

    /// Follows the image after a commit: new registrations begin a session, removed brokers have none.
    pub fn follow(&mut self, image: &Image, now: Mono) {
        self.sessions.retain(|id, session| {
            image
                .broker(*id)
                .is_some_and(|broker| broker.epoch == session.epoch)
        });
        for broker in image.brokers() {
            // A fenced broker without one was last heard of by another leader, or never since its own crash.
            let registered_now =
                broker.epoch.get() >= 0 && i64::try_from(image.index.get()) == Ok(broker.epoch.get());
            if registered_now || !broker.fenced {
                self.sessions
                    .entry(broker.id)
                    .or_insert_with(|| Session::new(broker.epoch, now));
            }
        }
    }

    /// A heartbeat of the registered epoch arrived, however late it was sent.
    pub fn contact(&mut self, id: BrokerId, epoch: BrokerEpoch, applied: MetadataOffset, now: Mono) {
        let session = self
            .sessions
            .entry(id)
            .or_insert_with(|| Session::new(epoch, now));
        if session.epoch != epoch {
            *session = Session::new(epoch, now);
        }
        session.contact = session.contact.max(now);
        session.dead = false;
        session.applied = session.applied.max(applied);
    }

    /// The broker's heartbeat stream broke and its address refuses connections: the process is gone.
    pub fn mark_dead(&mut self, id: BrokerId, epoch: BrokerEpoch) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.epoch == epoch
        {
            session.dead = true;
        }
    }

    /// This controller was away itself (a paused process), so it cannot tell who was silent meanwhile.
    pub fn grant_full_sessions(&mut self, now: Mono) {
        for session in self.sessions.values_mut() {
            session.contact = session.contact.max(now);
        }
    }

    /// Whether this life of the broker may still be at work.
    pub fn is_alive(&self, id: BrokerId, epoch: BrokerEpoch, now: Mono) -> bool {
        self.sessions
            .get(&id)
            .is_some_and(|session| session.epoch == epoch && !self.is_over(session, now))
    }

    /// The broker to fence next, the longest silent first; fenced ones have nothing to lose.
    pub fn next_to_fence(&self, image: &Image, now: Mono) -> Option<(BrokerId, BrokerEpoch)> {
        self.unfenced(image)
            .filter(|(_, session)| self.is_over(session, now))
            .min_by_key(|(id, session)| (!session.dead, session.contact, *id))
            .map(|(id, session)| (id, session.epoch))
    }

    /// When the next session of a broker in service runs out.
    pub fn next_expiry(&self, image: &Image) -> Option<Mono> {
        self.unfenced(image)
            .map(|(_, session)| session.end(self.timeout))
            .min()
    }

    /// The lowest index that a broker in service (but `except`) has applied; `None` when there is no other.
    pub fn lowest_applied(&self, image: &Image, except: BrokerId) -> Option<MetadataOffset> {
        self.unfenced(image)
            .filter(|(id, _)| *id != except)
            .map(|(_, session)| session.applied)
            .min()
    }

    fn unfenced<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = (BrokerId, &'a Session)> + 'a {
        self.sessions
            .iter()
            .filter(|(id, session)| {
                image
                    .broker(**id)
                    .is_some_and(|broker| !broker.fenced && broker.epoch == session.epoch)
            })
            .map(|(id, session)| (*id, session))
    }

    fn is_over(&self, session: &Session, now: Mono) -> bool {
        session.end(self.timeout) <= now
    }
}

impl Session {
    fn new(epoch: BrokerEpoch, now: Mono) -> Self {
        Session {
            epoch,
            contact: now,
            dead: false,
            applied: MetadataOffset(0),
        }
    }

    fn end(&self, timeout: Duration) -> Mono {
        if self.dead {
            Mono(0)
        } else {
            self.contact + timeout
        }
    }
}
