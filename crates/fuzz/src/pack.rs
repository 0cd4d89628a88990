//! A corpus in one file: inputs one behind the other, each as copies of bytes in front of it and bytes that are new.
//!
//! Numbers are LEB128. An input is its length, then pairs of (bytes that are new, these, bytes to copy, how far back in all
//! inputs they begin) until it is whole. Inputs that were made from one file share most of it.

/// Shorter copies cost more than they save.
const LEAST_COPY: usize = 8;

/// Packs `inputs`.
pub fn pack(inputs: &[Vec<u8>]) -> Vec<u8> {
    let all = inputs.concat();
    let mut packed = Vec::new();
    // The last place of each eight bytes, and the one in front of which places are known.
    let mut places = std::collections::HashMap::new();
    let (mut at, mut n_known) = (0, 0);
    for input in inputs {
        let end = at + input.len();
        push_number(&mut packed, input.len());
        let mut new = at;
        while at < end {
            while n_known < at {
                places.insert(key(&all, n_known), n_known);
                n_known += 1;
            }
            let from = places.get(&key(&all, at)).copied().filter(|_| at + LEAST_COPY <= end);
            let len = from
                .map_or(0, |from| all[from..].iter().zip(&all[at..end]).take_while(|(a, b)| a == b).count());
            at += len.max(1);
            if len >= LEAST_COPY || at == end {
                let is_copy = len >= LEAST_COPY;
                let copied = if is_copy { at - len } else { at };
                push_number(&mut packed, copied - new);
                packed.extend_from_slice(&all[new..copied]);
                push_number(&mut packed, if is_copy { len } else { 0 });
                push_number(&mut packed, from.filter(|_| is_copy).map_or(0, |from| copied - from));
                new = at;
            }
        }
    }
    packed
}

/// The bytes at a place that a copy is looked for by.
fn key(all: &[u8], at: usize) -> [u8; LEAST_COPY] {
    let mut key = [0; LEAST_COPY];
    key.iter_mut().zip(&all[at..]).for_each(|(to, from)| *to = *from);
    key
}

/// The inputs of a packed corpus; `None` for bytes that are none.
pub fn unpack(mut packed: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut all, mut ends) = (Vec::new(), vec![0]);
    while !packed.is_empty() {
        let end = all.len() + take_number(&mut packed)?;
        while all.len() < end {
            let n_new = take_number(&mut packed)?;
            let (new, rest) = packed.split_at_checked(n_new)?;
            all.extend_from_slice(new);
            packed = rest;
            let (len, back) = (take_number(&mut packed)?, take_number(&mut packed)?);
            let mut from = all.len().checked_sub(back).filter(|_| len == 0 || back > 0)?;
            let to = from.checked_add(len)?;
            // What is copied may end in bytes that the copy begins with.
            while from < to {
                let n = back.min(to - from);
                all.extend_from_within(from..from + n);
                from += n;
            }
        }
        ends.push(end);
    }
    Some(ends.windows(2).map(|pair| all[pair[0]..pair[1]].to_vec()).collect())
}

fn push_number(to: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take_number(from: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..28).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back_and_what_is_alike_is_short() {
        let file: Vec<u8> = (0..4000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        let mut changed = file.clone();
        changed[7000] ^= 1;
        let inputs = vec![
            file.clone(),
            vec![],
            changed,
            vec![7; 300],
            b"ab".to_vec(),
            file[100..900].to_vec(),
            vec![7],
        ];
        let packed = pack(&inputs);
        assert_eq!(unpack(&packed), Some(inputs));
        assert!(packed.len() < file.len() + 200, "{}", packed.len());
        assert_eq!(unpack(&[]), Some(vec![]));
    }

    #[test]
    fn damage_is_noticed_or_harmless() {
        let packed = pack(&[b"abcdefghij".to_vec(), b"xabcdefghij".to_vec()]);
        assert_eq!(unpack(&packed[..packed.len() - 1]), None);
        for at in 0..packed.len() {
            let mut changed = packed.clone();
            changed[at] = 0x7F;
            unpack(&changed);
        }
    }
}
