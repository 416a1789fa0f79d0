//! GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 and generator 2: the field of codec 1, and matrices over it.
//!
//! A matrix is a plain row-major list: the largest is 48 x 16, and an inversion of 16 x 16 is some 8,000 products, microseconds beside the
//! megabytes it is applied to. It is done anew for every set of lost fragments.

/// Powers of the generator, twice over so that a sum of two logarithms needs no reduction.
const EXP: [u8; 510] = powers();
/// Logarithms to the generator; that of zero is never read.
const LOG: [u8; 256] = logarithms();

const fn powers() -> [u8; 510] {
    let (mut table, mut x, mut at) = ([0; 510], 1_u8, 0);
    while at < 255 {
        table[at] = x;
        table[at + 255] = x;
        x = (x << 1) ^ if x & 0x80 == 0 { 0 } else { 0x1d };
        at += 1;
    }
    table
}

#[expect(clippy::cast_possible_truncation, reason = "an exponent is below 255")]
const fn logarithms() -> [u8; 256] {
    let (mut table, mut at) = ([0; 256], 0);
    while at < 255 {
        table[EXP[at] as usize] = at as u8;
        at += 1;
    }
    table
}

/// The product of two elements.
pub(super) const fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { EXP[LOG[a as usize] as usize + LOG[b as usize] as usize] }
}

/// What `a` must be multiplied by to give one; `a` is not zero.
pub(super) const fn inverse(a: u8) -> u8 {
    EXP[255 - LOG[a as usize] as usize]
}

/// A matrix of `rows.len() / columns` rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    /// The code's matrix: `total` rows of `data` columns, V (V of the first `data` rows)^-1 with V\[r\]\[c\] = r^c, so the first rows are the identity
    /// and any `data` rows can be inverted.
    pub(super) fn systematic(data: u8, total: u8) -> Self {
        let power = |base: u8, exponent: u8| (0..exponent).fold(1, |product, _| mul(product, base));
        let vandermonde =
            |rows: u8| Self { columns: data.into(), cells: (0..rows).flat_map(|r| (0..data).map(move |c| power(r, c))).collect() };
        let top = vandermonde(data).inverted().expect("rows of a Vandermonde matrix with distinct bases are independent");
        vandermonde(total).times(&top)
    }

    /// Rows, one after the other.
    pub(super) fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// Row `index`.
    pub(super) fn row(&self, index: usize) -> &[u8] {
        &self.cells[index * self.columns..(index + 1) * self.columns]
    }

    /// The matrix of the chosen rows, in their order.
    pub(super) fn select(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        Self { columns: self.columns, cells: rows.into_iter().flat_map(|row| self.row(row)).copied().collect() }
    }

    /// The product, whose columns are those of `right`.
    pub(super) fn times(&self, right: &Self) -> Self {
        let rows = self.cells.chunks(self.columns);
        let cell = |row: &[u8], column: usize| {
            row.iter().zip(right.cells.chunks(right.columns)).fold(0, |sum, (left, right)| sum ^ mul(*left, right[column]))
        };
        Self { columns: right.columns, cells: rows.flat_map(|row| (0..right.columns).map(move |column| cell(row, column))).collect() }
    }

    /// The inverse of a square matrix by elimination; nothing if its rows depend on one another.
    pub(super) fn inverted(&self) -> Option<Self> {
        let n = self.columns;
        let mut left: Vec<Vec<u8>> = self.cells.chunks(n).map(<[u8]>::to_vec).collect();
        let mut right: Vec<Vec<u8>> = (0..n).map(|row| (0..n).map(|column| u8::from(row == column)).collect()).collect();
        for at in 0..n {
            let pivot = (at..n).find(|row| left[*row][at] != 0)?;
            left.swap(at, pivot);
            right.swap(at, pivot);
            let scale = inverse(left[at][at]);
            for side in [&mut left, &mut right] {
                side[at].iter_mut().for_each(|cell| *cell = mul(*cell, scale));
            }
            for row in (0..n).filter(|row| *row != at) {
                let factor = left[row][at];
                for side in [&mut left, &mut right] {
                    let pivot = side[at].clone();
                    side[row].iter_mut().zip(pivot).for_each(|(cell, above)| *cell ^= mul(factor, above));
                }
            }
        }
        Some(Self { columns: n, cells: right.concat() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_follow_the_field_s_definition() {
        // Shift and add, reduced by the polynomial: the definition, apart from the tables.
        let slow = |a: u8, b: u8| {
            let (mut a, mut product) = (u16::from(a), 0_u16);
            for bit in 0..8 {
                product ^= if b >> bit & 1 == 1 { a } else { 0 };
                a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x11d };
            }
            product
        };
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(u16::from(mul(a, b)), slow(a, b), "{a} x {b}");
            }
            assert!(a == 0 || mul(a, inverse(a)) == 1);
        }
    }

    #[test]
    fn any_choice_of_rows_of_the_code_can_be_inverted_and_gives_the_identity_back() {
        for (data, total) in [(3, 5), (3, 9), (4, 12), (10, 30), (16, 48)] {
            let code = Matrix::systematic(data, total);
            let identity =
                Matrix { columns: data.into(), cells: (0..data).flat_map(|r| (0..data).map(move |c| u8::from(r == c))).collect() };
            assert_eq!(code.select(0..data.into()), identity);
            for step in 1..total {
                let places: std::collections::BTreeSet<usize> =
                    (0..usize::from(data)).map(|at| at * usize::from(step) % usize::from(total)).collect();
                let rows = code.select(places);
                if rows.cells.len() == identity.cells.len() {
                    assert_eq!(rows.times(&rows.inverted().unwrap()), identity, "{data} of {total}, step {step}");
                }
            }
        }
        assert_eq!(Matrix { columns: 2, cells: vec![1, 2, 1, 2] }.inverted(), None);
    }
}
