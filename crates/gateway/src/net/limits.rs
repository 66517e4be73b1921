//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts open connections; cheap to clone.
#[derive(Clone)]
pub(crate) struct ConnectionCounts {
    inner: Arc<Inner>,
}

struct Inner {
    total_max: usize,
    per_ip_max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// One counted connection; it is counted out when this is dropped.
pub(crate) struct Admission {
    counts: ConnectionCounts,
    ip: IpAddr,
}

impl ConnectionCounts {
    pub(crate) fn new(total_max: usize, per_ip_max: usize) -> Self {
        ConnectionCounts {
            inner: Arc::new(Inner {
                total_max,
                per_ip_max,
                open: Mutex::default(),
            }),
        }
    }

    /// Counts a connection in; `None` when a limit is reached.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Admission> {
        let mut open = self.inner.open.lock();
        if open.total >= self.inner.total_max {
            return None;
        }
        let from_ip = open.per_ip.entry(ip).or_default();
        if *from_ip >= self.inner.per_ip_max {
            return None;
        }
        *from_ip += 1;
        open.total += 1;
        Some(Admission {
            counts: self.clone(),
            ip,
        })
    }

    pub(crate) fn open(&self) -> usize {
        self.inner.open.lock().total
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.counts.inner.open.lock();
        open.total -= 1;
        if let Some(from_ip) = open.per_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                open.per_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn limits_hold_and_are_given_back() {
        let ip = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        let counts = ConnectionCounts::new(3, 2);
        let first = counts.admit(ip(1)).unwrap();
        let _second = counts.admit(ip(1)).unwrap();
        assert!(counts.admit(ip(1)).is_none(), "two from one address");
        let _third = counts.admit(ip(2)).unwrap();
        assert!(counts.admit(ip(3)).is_none(), "three in all");
        drop(first);
        assert!(counts.admit(ip(1)).is_some());
        assert_eq!(counts.open(), 2);
    }
}
