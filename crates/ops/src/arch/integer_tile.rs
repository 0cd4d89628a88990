//! The loops of an integer register tile; a back-end brings its instructions.

/// Defines a tile of Q8_0 activations with weights of one block type:
/// `integer_tile!(Name, Rhs, features, zero => sum, |x| …, |w| …, |acc, x, w| …)`.
///
/// `|x|` and `|w|` unpack a block of either side, once for each; the last is the new accumulator of a pair. Accumulators
/// start as `zero` and are folded by `sum`.
macro_rules! integer_tile {
    (
        $name:ident, $rhs:ty, $feature:meta, $zero:expr => $sum:path,
        |$x:ident| $unpack_x:expr,
        |$w:ident| $unpack_w:expr,
        |$acc:ident, $px:ident, $pw:ident| $step:expr
    ) => {
        struct $name;

        impl $crate::product::Micro for $name {
            type Lhs = $crate::block::BlockQ8_0;
            type Rhs = $rhs;

            #[inline(always)]
            fn tile<const M: usize, const N: usize>(
                lhs: [&[$crate::block::BlockQ8_0]; M],
                rhs: [&[$rhs]; N],
            ) -> [[f32; N]; M] {
                #[inline]
                #[$feature]
                fn tile<const M: usize, const N: usize>(
                    lhs: [&[$crate::block::BlockQ8_0]; M],
                    rhs: [&[$rhs]; N],
                ) -> [[f32; N]; M] {
                    let mut acc = [[$zero; N]; M];
                    for b in 0..$crate::product::shortest(&lhs, &rhs) {
                        // SAFETY: `b` is less than the length of every row.
                        let lhs = lhs.map(|x| unsafe { x.get_unchecked(b) });
                        // SAFETY: as above.
                        let rhs = rhs.map(|w| unsafe { w.get_unchecked(b) });
                        let weights = rhs.map(|$w| $unpack_w);
                        for (acc, $x) in acc.iter_mut().zip(lhs) {
                            let $px = $unpack_x;
                            for ($acc, $pw) in acc.iter_mut().zip(weights) {
                                *$acc = $step;
                            }
                        }
                    }
                    acc.map(|row| row.map(|acc| $sum(acc)))
                }
                // SAFETY: only functions that enable these CPU features name this type.
                unsafe { tile(lhs, rhs) }
            }
        }
    };
}
pub(crate) use integer_tile;
