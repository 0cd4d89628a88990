//! Products of f32 activations with float weights, written once over [`Lanes`].

use core::marker::PhantomData;

use crate::lanes::{Lanes, Value};
use crate::product::{Micro, shortest};

/// Products of f32 activations with weights of float type `V`: two registers of partial sums for each result.
pub(crate) struct Floats<L, V, const W: usize>(PhantomData<(L, V)>);

/// A row cut into pairs of registers, at most one single register, and a tail.
#[derive(Clone, Copy)]
struct Cut<'a, T, const W: usize> {
    pairs: &'a [[[T; W]; 2]],
    single: &'a [[T; W]],
    tail: &'a [T],
}

impl<'a, T, const W: usize> Cut<'a, T, W> {
    /// The first `n` values of `row`, which has as many: equal lengths let the compiler drop the checks below.
    #[inline(always)]
    fn new(row: &'a [T], n: usize) -> Self {
        let (chunks, tail) = row.get(..n).unwrap_or(&[]).as_chunks::<W>();
        let (pairs, single) = chunks.as_chunks::<2>();
        Self { pairs, single, tail }
    }
}

/// `acc[i][j] += x[i] * w[j]`
#[inline(always)]
fn outer_product<L: Lanes<W>, const W: usize, const M: usize, const N: usize>(
    acc: &mut [[L; N]; M],
    x: [L; M],
    w: [L; N],
) {
    for (acc, x) in acc.iter_mut().zip(x) {
        acc.iter_mut().zip(w).for_each(|(acc, w)| *acc = x.mul_add(w, *acc));
    }
}

impl<L: Lanes<W>, V: Value, const W: usize> Micro for Floats<L, V, W> {
    type Weight = V;

    #[inline(always)]
    fn tile<const M: usize, const N: usize>(lhs: [&[f32]; M], rhs: [&[V]; N]) -> [[f32; N]; M] {
        let n = shortest(&lhs, &rhs);
        let (lhs, rhs) = (lhs.map(|x| Cut::<f32, W>::new(x, n)), rhs.map(|w| Cut::<V, W>::new(w, n)));
        let zero = L::splat(0.0);
        let (mut even, mut odd) = ([[zero; N]; M], [[zero; N]; M]);
        for c in 0..lhs.first().map_or(0, |x| x.pairs.len()) {
            let x = lhs.map(|x| x.pairs.get(c).map_or([zero; 2], |[a, b]| [L::load(a), L::load(b)]));
            let w = rhs.map(|w| w.pairs.get(c).map_or([zero; 2], |[a, b]| [V::load(a), V::load(b)]));
            outer_product(&mut even, x.map(|[x, _]| x), w.map(|[w, _]| w));
            outer_product(&mut odd, x.map(|[_, x]| x), w.map(|[_, w]| w));
        }
        if lhs.iter().any(|x| !x.single.is_empty()) {
            let x = lhs.map(|x| x.single.first().map_or(zero, |x| L::load(x)));
            outer_product(&mut even, x, rhs.map(|w| w.single.first().map_or(zero, |w| V::load(w))));
        }
        if lhs.iter().any(|x| !x.tail.is_empty()) {
            let w = rhs.map(|w| L::load_padded(w.tail));
            outer_product(&mut odd, lhs.map(|x| L::load_padded(x.tail)), w);
        }
        L::sums(even, odd)
    }
}
