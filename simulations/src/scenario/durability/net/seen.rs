//! What is seen of the network from outside: fragments that are left, whether all say the same, and operators that are drawn to fall.

use std::collections::{BTreeMap, BTreeSet};

use storage::{
    erasure::Profile,
    proto::placement::{Assignment, Subnet},
};
use types::{
    id::{Address, BlobId},
    time::Time,
};

use super::{Net, Object};

impl Net {
    /// Fragments of an object that are on the disk of an operator that runs, each counted once.
    pub(super) fn left(&self, id: BlobId) -> usize {
        let on = |fragment: u8| {
            let holders = self.copies.get(&(id, fragment));
            holders.is_some_and(|holders| holders.iter().any(|operator| self.nodes.get(operator).is_some_and(|node| node.is_up)))
        };
        (0..self.objects[&id].manifest.profile().total()).filter(|fragment| on(*fragment)).count()
    }

    /// Fragments left of each object.
    pub fn lefts(&self) -> Vec<usize> {
        self.objects.keys().map(|id| self.left(*id)).collect()
    }

    /// Fragments of each object on disks of others than `away`.
    pub fn seen_without(&self, away: &[Address]) -> Vec<usize> {
        let away: BTreeSet<_> = away.iter().collect();
        let on = |id: BlobId, fragment: u8| {
            let holders = self.copies.get(&(id, fragment));
            holders.is_some_and(|holders| holders.iter().any(|operator| !away.contains(operator)))
        };
        let of = |(id, object): (&BlobId, &Object)| (0..object.manifest.profile().total()).filter(|fragment| on(*id, *fragment)).count();
        self.objects.iter().map(of).collect()
    }

    /// Hours since the beginning.
    pub fn now_h(&self) -> f64 {
        self.now.since(Time(0)).as_secs_f64() / 3_600.0
    }

    /// The profile of the objects.
    pub fn profile(&self) -> Profile {
        self.objects.values().next().map_or(Profile::DEVNET, |object| object.manifest.profile())
    }

    /// Whether all who run and hold something of an object name the same holders at the same generations.
    pub fn agrees(&self) -> bool {
        let mut views = BTreeMap::<BlobId, &Assignment>::new();
        let running = self.cores.iter().filter(|(me, _)| self.nodes[*me].is_up);
        let mut held = running.flat_map(|(me, core)| core.objects().filter_map(move |id| Some((id, *me, core.assignment(id)?))));
        held.all(|(id, me, view)| view.held_by(me).is_none() || *views.entry(id).or_insert(view) == view)
    }

    /// Whether each fragment is on the disk of the holder that the others name, if that one runs.
    pub fn is_kept(&self) -> bool {
        let is_up = |holder: Address| self.nodes.get(&holder).is_some_and(|node| node.is_up);
        let has_it = |object: BlobId, (fragment, holder): (u8, Address)| self.copies[&(object, fragment)].contains(&holder);
        let is_kept = |view: &Assignment| view.holders().all(|held| !is_up(held.1) || has_it(view.object(), held));
        self.cores.iter().all(|(me, core)| {
            let mut held = core.objects().filter_map(|id| core.assignment(id)).filter(|view| view.held_by(*me).is_some());
            held.all(is_kept)
        })
    }

    /// So many operators that run, drawn at random.
    pub fn draw(&mut self, count: usize) -> Vec<Address> {
        let mut running = self.running();
        self.random.shuffle(&mut running);
        running.truncate(count);
        running
    }

    /// All operators in the subnets that hold most of the first object.
    pub fn worst_subnets(&self, most: usize) -> Vec<Address> {
        let mut held = BTreeMap::<_, usize>::new();
        if let Some(first) = self.objects.keys().next() {
            let holders = self.copies.range((*first, 0)..=(*first, u8::MAX)).flat_map(|(_, holders)| holders);
            holders.for_each(|operator| *held.entry(self.sites[operator].subnet).or_default() += 1);
        }
        let mut worst: Vec<_> = held.into_iter().collect();
        worst.sort_unstable_by_key(|(subnet, fragments)| (std::cmp::Reverse(*fragments), *subnet));
        let worst: BTreeSet<_> = worst.into_iter().take(most).map(|(subnet, _)| subnet).collect();
        self.within(&worst)
    }

    /// All operators in so many subnets, drawn at random.
    pub fn draw_subnets(&mut self, most: usize) -> Vec<Address> {
        let all: BTreeSet<_> = self.sites.values().map(|site| site.subnet).collect();
        let mut drawn: Vec<_> = all.into_iter().collect();
        self.random.shuffle(&mut drawn);
        self.within(&drawn.into_iter().take(most).collect())
    }

    /// All operators in the subnet that has most.
    pub fn largest_subnet(&self) -> Vec<Address> {
        let mut sizes = BTreeMap::<_, usize>::new();
        self.sites.values().for_each(|site| *sizes.entry(site.subnet).or_default() += 1);
        let largest = sizes.into_iter().max_by_key(|(subnet, size)| (*size, std::cmp::Reverse(*subnet)));
        self.within(&largest.into_iter().map(|(subnet, _)| subnet).collect())
    }

    fn within(&self, subnets: &BTreeSet<Option<Subnet>>) -> Vec<Address> {
        self.sites.iter().filter(|(_, site)| subnets.contains(&site.subnet)).map(|(operator, _)| *operator).collect()
    }

    /// Operators that are slow.
    pub fn slow(&self) -> usize {
        self.nodes.values().filter(|node| node.times > 1).count()
    }

    /// Hours until the next death when each of the operators lives `life_h` on average: an exponential time.
    pub fn next_death_h(&mut self, life_h: f64) -> f64 {
        let operators = u32::try_from(self.nodes.len()).expect("operators are few");
        -self.random.share().ln() * life_h / f64::from(operators)
    }
}
