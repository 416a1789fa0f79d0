//! A file that is right but for some edits: bytes of a mutator say where and how, so that what is changed is what is read.

use serde_json::Value;

/// Takes numbers off the front of an input; zero past its end.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl Numbers<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn wide<const N: usize>(&mut self) -> u64 {
        (0..N).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.wide::<3>()).expect("three bytes") % bound.max(1)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Edits of a JSON value until the numbers are used up, 64 at most.
pub(crate) fn edited(mut value: Value, numbers: &mut Numbers<'_>) -> Value {
    for _ in 0..64 {
        if numbers.is_empty() {
            break;
        }
        let mut count = 0;
        visit(&mut value, &mut |_| count += 1);
        let wanted = numbers.below(count);
        let (how, number) = (numbers.byte(), numbers.wide::<2>());
        let mut at = 0;
        let mut rest = Numbers(numbers.0);
        visit(&mut value, &mut |value| {
            if at == wanted {
                edit(value, how, number, &mut rest);
            }
            at += 1;
        });
        numbers.0 = rest.0;
    }
    value
}

/// Calls `tell` with each value, outer ones first.
fn visit(value: &mut Value, tell: &mut dyn FnMut(&mut Value)) {
    tell(value);
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| visit(value, tell)),
        Value::Object(fields) => fields.values_mut().for_each(|value| visit(value, tell)),
        _ => {}
    }
}

fn edit(value: &mut Value, how: u8, number: u64, rest: &mut Numbers<'_>) {
    let place = usize::try_from(number).expect("two bytes");
    match value {
        Value::Number(_) => {
            *value = match how % 4 {
                0 => number.into(),
                1 => rest.wide::<8>().into(),
                2 => value.as_u64().unwrap_or(0).wrapping_add(number).into(),
                _ => value.as_u64().unwrap_or(0).wrapping_sub(number).into(),
            }
        }
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && how % 4 == 0 => *text = rest.wide::<8>().to_string(),
        Value::String(text) => {
            let mut letters: Vec<char> = text.chars().collect();
            let at = place % (letters.len() + 1);
            match how % 4 {
                0 if at < letters.len() => letters[at] = char::from_digit(u32::from(rest.byte()) % 16, 16).unwrap_or('0'),
                1 => letters.truncate(at),
                2 => letters.insert(at, char::from(rest.byte())),
                _ => letters.extend_from_within(at..),
            }
            letters.truncate(1 << 16);
            *text = letters.into_iter().collect();
        }
        Value::Array(values) if !values.is_empty() => {
            let at = place % values.len();
            match how % 4 {
                0 => drop(values.remove(at)),
                1 if values.len() < 1 << 10 => values.insert(at, values[at].clone()),
                2 => values.swap(at, 0),
                _ => values.truncate(at),
            }
        }
        Value::Object(fields) if how % 8 == 0 => {
            let name = fields.keys().nth(place % fields.len().max(1)).cloned();
            name.and_then(|name| fields.remove(&name));
        }
        Value::Bool(is) => *is = !*is,
        _ => {}
    }
}
