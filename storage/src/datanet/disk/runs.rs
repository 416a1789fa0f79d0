//! Runs as files: written whole, verified whole when opened and when merged, and never changed.

use std::{io, sync::Arc};

use super::{
    DiskError,
    files::{BUFFER_BYTES, Integers, Section},
};
use crate::{
    datanet::dedup::run::{COLUMNS, Column, DIGESTS, HEADER_BYTES, SECTIONS, Shape, header, page, pages, parse, slot_words},
    store::disk::{Disk, DiskFile},
};

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    /// Its number, which names its file.
    pub(super) number: u32,
    /// BLAKE3 of its header, which holds the hashes of all else.
    pub(super) hash: [u8; 32],
    pub(super) shape: Shape,
    pub(super) columns: [Column; COLUMNS],
    /// First entry of each page of each column, and the end.
    pub(super) starts: Vec<Vec<u32>>,
    pub(super) file: Arc<dyn DiskFile>,
}

/// The name of a run's file.
pub(super) fn name(number: u32) -> String {
    format!("{number:08}.run")
}

fn io_error(doing: &'static str, number: u32) -> impl Fn(io::Error) -> DiskError + use<> {
    move |error| match error.kind() {
        io::ErrorKind::UnexpectedEof => DiskError::Damaged { file: name(number), problem: "it is shorter than its header says".into() },
        _ => DiskError::Io { doing, file: name(number), error },
    }
}

fn damaged(number: u32, problem: impl Into<String>) -> DiskError {
    DiskError::Damaged { file: name(number), problem: problem.into() }
}

impl Run {
    /// Opens a run that has the header of this hash, and reads all of it.
    pub(super) fn open(disk: &dyn Disk, number: u32, hash: [u8; 32]) -> Result<Self, DiskError> {
        let failed = io_error("read", number);
        let file = disk.open(&name(number)).map_err(&failed)?;
        let mut bytes = vec![0; HEADER_BYTES];
        file.read(0, &mut bytes).map_err(&failed)?;
        if *blake3::hash(&bytes).as_bytes() != hash {
            return Err(damaged(number, "its header is not the one that was written"));
        }
        let (shape, hashes) = parse(&bytes).map_err(|error| damaged(number, error.to_string()))?;
        let (columns, mut all) = (shape.columns(), Vec::with_capacity(COLUMNS));
        if file.len().map_err(&failed)? != shape.bytes() {
            return Err(damaged(number, "it has another length than its header says"));
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        for (column, hashes) in columns.iter().zip(&hashes) {
            let mut starts = Vec::with_capacity(pages(column.rest_bits) + 1);
            for (section, hash) in hashes.iter().enumerate() {
                let mut hasher = blake3::Hasher::new();
                let (mut at, end) = (column.at[section], column.at[section + 1]);
                while at < end {
                    let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
                    file.read(at, &mut buffer[..len]).map_err(&failed)?;
                    hasher.update(&buffer[..len]);
                    if section == 0 {
                        starts.extend(buffer[..len].as_chunks::<4>().0.iter().map(|start| u32::from_be_bytes(*start)));
                    }
                    at += len as u64;
                }
                if hasher.finalize().as_bytes() != hash {
                    return Err(damaged(number, format!("bytes {} to {end} are not those that were written", column.at[section])));
                }
            }
            all.push(starts);
        }
        Ok(Self { number, hash, shape, columns, starts: all, file })
    }

    /// Writes a run, whose columns `fill` gives in ascending order, and makes it durable; its name is not.
    pub(super) fn write(
        disk: &dyn Disk,
        number: u32,
        shape: Shape,
        mut fill: impl FnMut(usize, &mut Filling<'_>) -> Result<(), DiskError>,
    ) -> Result<Self, DiskError> {
        let failed = io_error("write", number);
        let file = disk.open(&name(number)).map_err(&failed)?;
        let (columns, mut starts) = (shape.columns(), Vec::with_capacity(COLUMNS));
        let mut hashes = [[[0; 32]; SECTIONS]; COLUMNS];
        for (at, column) in columns.iter().enumerate() {
            let mut filling = Filling::new(file.as_ref(), number, shape, *column);
            fill(at, &mut filling)?;
            let (column_starts, column_hashes) = filling.finish(file.as_ref()).map_err(&failed)?;
            starts.push(column_starts);
            hashes[at] = column_hashes;
        }
        let header = header(shape, &hashes);
        file.write(0, &header).and_then(|()| file.sync()).map_err(&failed)?;
        Ok(Self { number, hash: *blake3::hash(&header).as_bytes(), shape, columns, starts, file })
    }

    /// Merges runs into one. Entries of one key stand in the order of their documents' priorities.
    pub(super) fn merged<P: Ord>(
        disk: &dyn Disk,
        number: u32,
        numbers: u32,
        runs: &[&Self],
        priority: impl Fn(u32) -> P,
    ) -> Result<Self, DiskError> {
        let sum = |of: fn(&Shape) -> u32| runs.iter().map(|run| of(&run.shape)).sum();
        let shape = Shape::new(sum(|shape| shape.signed), sum(|shape| shape.documents), numbers);
        Self::write(disk, number, shape, |column, filling| {
            let mut readers = runs.iter().map(|run| Reading::new(run, column)).collect::<Result<Vec<_>, _>>()?;
            loop {
                let mut first: Option<(usize, (u32, u32))> = None;
                for (at, reader) in readers.iter().enumerate() {
                    let Some(entry) = reader.head else { continue };
                    let is_first =
                        first.is_none_or(|(_, held)| entry.0 < held.0 || (entry.0 == held.0 && priority(entry.1) < priority(held.1)));
                    if is_first {
                        first = Some((at, entry));
                    }
                }
                let Some((at, (key, document))) = first else { break };
                filling.push(key, document)?;
                readers[at].step()?;
            }
            readers.iter_mut().try_for_each(Reading::check)
        })
    }

    /// Its entries but those of documents that `is_gone` names, in a run of another number; nothing if none is left. Two columns are read once more to be
    /// counted: the header says how long each is.
    pub(super) fn without(
        &self,
        disk: &dyn Disk,
        number: u32,
        numbers: u32,
        is_gone: impl Fn(u32) -> bool,
    ) -> Result<Option<Self>, DiskError> {
        let (signed, documents) = (self.count(0, |document| !is_gone(document))?, self.count(DIGESTS, |document| !is_gone(document))?);
        if documents == 0 {
            return Ok(None);
        }
        let written = Self::write(disk, number, Shape::new(signed, documents, numbers), |column, filling| {
            let mut reading = Reading::new(self, column)?;
            while let Some((key, document)) = reading.head {
                if !is_gone(document) {
                    filling.push(key, document)?;
                }
                reading.step()?;
            }
            reading.check()
        });
        written.map(Some)
    }

    /// Entries of a column whose documents are `wanted`.
    pub(super) fn count(&self, column: usize, wanted: impl Fn(u32) -> bool) -> Result<u32, DiskError> {
        let (mut reading, mut count) = (Reading::new(self, column)?, 0);
        while let Some((_, document)) = reading.head {
            count += u32::from(wanted(document));
            reading.step()?;
        }
        reading.check().map(|()| count)
    }

    /// What a failed read of it becomes.
    pub(super) fn failed(&self) -> impl Fn(io::Error) -> DiskError + use<> {
        io_error("read", self.number)
    }

    /// Removes its file, if it is there.
    pub(super) fn remove(disk: &dyn Disk, number: u32) -> Result<(), DiskError> {
        match disk.remove(&name(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", number)(error)),
            _ => Ok(()),
        }
    }
}

/// A column that is being written.
#[derive(Debug)]
pub(super) struct Filling<'f> {
    number: u32,
    column: Column,
    number_bits: u32,
    slots: Section<'f>,
    rests: Section<'f>,
    numbers: Section<'f>,
    starts: Vec<u32>,
    /// Slots that are closed.
    slot: u64,
    count: u32,
}

impl<'f> Filling<'f> {
    fn new(file: &'f dyn DiskFile, number: u32, shape: Shape, column: Column) -> Self {
        let [_, slots, rests, numbers, _] = column.at.map(|at| Section::new(file, at));
        let mut starts = Vec::with_capacity(pages(column.rest_bits) + 1);
        starts.push(0);
        Self { number, column, number_bits: shape.number_bits, slots, rests, numbers, starts, slot: 0, count: 0 }
    }

    /// Adds an entry that is not before the last one.
    pub(super) fn push(&mut self, key: u32, document: u32) -> Result<(), DiskError> {
        let (slot, rest) = self.column.split(key);
        while self.starts.len() <= page(slot) {
            self.starts.push(self.count);
        }
        self.count += 1;
        let written = self.close(u64::from(slot)).and_then(|()| self.slots.push(1, 1));
        let written = written.and_then(|()| self.rests.push(rest, self.column.rest_bits));
        written.and_then(|()| self.numbers.push(document, self.number_bits)).map_err(io_error("write", self.number))
    }

    /// Closes the slots before this one.
    fn close(&mut self, slot: u64) -> io::Result<()> {
        while self.slot < slot {
            let some = u32::try_from((slot - self.slot).min(32)).expect("at most 32");
            self.slots.push(0, some)?;
            self.slot += u64::from(some);
        }
        Ok(())
    }

    fn finish(mut self, file: &dyn DiskFile) -> io::Result<(Vec<u32>, [[u8; 32]; SECTIONS])> {
        assert_eq!(self.count, self.column.entries, "a column is as long as its shape says");
        let pages = pages(self.column.rest_bits);
        self.starts.resize(pages + 1, self.count);
        let bits = 32 * u64::from(slot_words(self.count, self.column.rest_bits));
        self.close(bits - u64::from(self.count))?;
        let mut starts = Section::new(file, self.column.at[0]);
        for some in self.starts.chunks(BUFFER_BYTES / 4) {
            starts.bytes(&some.iter().flat_map(|start| start.to_be_bytes()).collect::<Vec<_>>())?;
        }
        Ok((self.starts, [starts.finish()?, self.slots.finish()?, self.rests.finish()?, self.numbers.finish()?]))
    }
}

/// A column that is read from its beginning to its end.
struct Reading<'r> {
    run: &'r Run,
    column: usize,
    /// Words of the slots, and what is left of the last.
    slots: Integers<'r>,
    word: u32,
    bits: u32,
    rests: Integers<'r>,
    numbers: Integers<'r>,
    slot: u32,
    head: Option<(u32, u32)>,
}

impl<'r> Reading<'r> {
    fn new(run: &'r Run, column: usize) -> Result<Self, DiskError> {
        let Column { entries, rest_bits, at } = run.columns[column];
        let integers = |section: usize, count, width| Integers::new(run.file.as_ref(), at[section], count, width);
        let slots = integers(1, slot_words(entries, rest_bits), 32);
        let (rests, numbers) = (integers(2, entries, rest_bits), integers(3, entries, run.shape.number_bits));
        let mut reading = Self { run, column, slots, word: 0, bits: 0, rests, numbers, slot: 0, head: None };
        reading.step()?;
        Ok(reading)
    }

    fn step(&mut self) -> Result<(), DiskError> {
        let failed = io_error("read", self.run.number);
        let (rest, document) = (self.rests.next().map_err(&failed)?, self.numbers.next().map_err(&failed)?);
        self.head = None;
        if let Some((rest, document)) = rest.zip(document) {
            self.one().map_err(&failed)?;
            self.head = Some((self.run.columns[self.column].key(self.slot, rest), document));
        }
        Ok(())
    }

    /// Goes behind the next one of the slots.
    fn one(&mut self) -> io::Result<()> {
        loop {
            if self.bits == 0 {
                self.word = self.slots.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
                self.bits = 32;
            }
            let zeros = self.word.trailing_zeros().min(self.bits);
            // As many as there are in a column that is what was written.
            self.slot = self.slot.wrapping_add(zeros);
            self.bits -= zeros;
            if self.bits > 0 {
                self.word = self.word >> zeros >> 1;
                self.bits -= 1;
                return Ok(());
            }
        }
    }

    /// That what was read is what was written.
    fn check(&mut self) -> Result<(), DiskError> {
        while self.slots.next().map_err(io_error("read", self.run.number))?.is_some() {}
        let Run { number, file, .. } = self.run;
        let mut bytes = vec![0; HEADER_BYTES];
        file.read(0, &mut bytes).map_err(io_error("read", *number))?;
        let hashes = parse(&bytes).map_err(|error| damaged(*number, error.to_string()))?.1[self.column];
        if [self.slots.hash(), self.rests.hash(), self.numbers.hash()] == hashes[1..] {
            return Ok(());
        }
        Err(damaged(*number, format!("column {} is not what was written", self.column)))
    }
}
