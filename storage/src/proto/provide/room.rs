//! Whether a node takes new fragments: decided by the bytes that are free, and not again at every one that comes or goes.
//!
//! A node that stops at the byte it starts at would say yes and no with every fragment, and every change of an ad is gossiped to all. So it stops when a quarter of
//! [`Room::new`]'s bytes are left and starts again when all of them are. A fragment that found no room stops it too, whatever is free, until twice as much
//! is: contributors would else come back to it.

/// What a node says of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    from_bytes: u64,
    /// What the last fragment that found no room needs, if that is more.
    wanted_bytes: u64,
    is_open: bool,
}

impl Room {
    /// Of a node that takes fragments from `from_bytes` free bytes on, `free_bytes` of which there are.
    pub const fn new(from_bytes: u64, free_bytes: u64) -> Self {
        Self { from_bytes, wanted_bytes: 0, is_open: free_bytes >= from_bytes }
    }

    /// Whether new fragments are taken now that `free_bytes` are free.
    pub fn see(&mut self, free_bytes: u64) -> bool {
        let least = if self.is_open { self.from_bytes / 4 } else { self.from_bytes.max(self.wanted_bytes) };
        self.is_open = free_bytes >= least;
        if self.is_open {
            self.wanted_bytes = 0;
        }
        self.is_open
    }

    /// A fragment of `need_bytes` found no room.
    pub fn refuse(&mut self, need_bytes: u64) {
        (self.wanted_bytes, self.is_open) = (need_bytes.saturating_mul(2), false);
    }

    /// Whether new fragments are taken.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stops_at_a_quarter_and_starts_again_at_all_of_it() {
        let mut room = Room::new(100, 99);
        let said: Vec<_> = [99, 100, 99, 25, 24, 25, 99, 100].map(|free| room.see(free)).to_vec();
        assert_eq!(said, [false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn a_fragment_without_room_stops_it_until_there_is_twice_as_much() {
        let mut room = Room::new(0, 30);
        assert!(room.is_open() && room.see(30));
        room.refuse(40);
        assert!(!room.is_open() && !room.see(79) && room.see(80) && room.see(0), "0 keeps it open for whatever fits");
        let mut room = Room::new(100, 1_000);
        room.refuse(u64::MAX);
        assert!(!room.see(u64::MAX - 1) && room.see(u64::MAX));
    }
}
