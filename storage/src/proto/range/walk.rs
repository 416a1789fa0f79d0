//! The order in which a range travels.

use super::{PAIR_BYTES, Run, Shape};

/// A node of the tree over groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    /// Its first group.
    pub(super) first: u32,
    /// Its groups, at least one; a leaf has one.
    pub(super) count: u32,
    /// Place of its pair among all pairs in pre-order; a leaf has none.
    pub(super) place: u32,
}

impl Node {
    pub(super) fn root(shape: Shape) -> Self {
        Self { first: 0, count: shape.groups(), place: 0 }
    }

    /// The children of a node that is no leaf: as BLAKE3 cuts, the left one is the largest power of two below the whole.
    pub(super) const fn children(self) -> (Self, Self) {
        let left = 1 << (self.count - 1).ilog2();
        // A tree of n leaves has n - 1 pairs.
        let near = Self { first: self.first, count: left, place: self.place + 1 };
        (near, Self { first: self.first + left, count: self.count - left, place: self.place + left })
    }

    pub(super) const fn is_leaf(self) -> bool {
        self.count <= 1
    }

    pub(super) const fn touches(self, run: Run) -> bool {
        self.first < run.end() && run.first < self.first + self.count
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Pair(Node),
    Group(u32),
}

impl Step {
    /// Its bytes.
    pub(super) fn len(self, shape: Shape) -> usize {
        match self {
            Self::Pair(_) => PAIR_BYTES,
            Self::Group(group) => shape.group_len(group),
        }
    }
}

/// The steps of a range. Holds one node per level: a dozen at most.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    run: Run,
    stack: Vec<Node>,
}

impl Walk {
    pub(super) fn new(shape: Shape, run: Run) -> Self {
        Self { run, stack: vec![Node::root(shape)] }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let node = self.stack.pop()?;
            if !node.touches(self.run) {
                continue;
            }
            if node.is_leaf() {
                return Some(Step::Group(node.first));
            }
            let (left, right) = node.children();
            self.stack.extend([right, left]);
            return Some(Step::Pair(node));
        }
    }
}
