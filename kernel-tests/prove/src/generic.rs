//! Public functions with parameters of types, or that give an iterator, each with types chosen and iterators driven.
//!
//! `cargo xtask prove` compares the names with what rustdoc says is public.

use crate::table::Export;
use core::hash::{Hash, Hasher};
use core::hint::black_box;
use corelm::arena::{Arena, Layout};
use corelm::chat::ChatTemplate;
use corelm::error::ArenaError;
use corelm::gguf::writer::{WriteError, Writer};
use corelm::gguf::{Array, Image};
use corelm::tokenizer::{Piece, Pre, Tokenizer, Utf8Stream};
use corelm_ops::cpu::{with_default_floats, with_default_floats_in};
use corelm_ops::{
    Backend, Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0, F16, F32, Feature, Features, GgmlType, Line, Ops,
    PartSize, Rows, TileMut, Workers, for_each_tile, reference,
};

/// Lists functions by the names that `cargo xtask prove` has for them.
macro_rules! generic {
    ($($name:literal = fn $args:tt $(-> $result:ty)? $body:block)*) => {
        /// Every public function with parameters of types.
        #[unsafe(link_section = ".corelm_generic")]
        pub static GENERIC: [Export; [$($name),*].len()] = [$({
            fn function $args $(-> $result)? $body
            Export(function as *const ())
        }),*];
    };
}

/// Hashes by adding.
struct Sum(u64);

impl Hasher for Sum {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.wrapping_add(u64::from(*byte)));
    }
}

/// Takes all that an iterator gives.
fn drive(items: impl Iterator) {
    items.for_each(|item| drop(black_box(item)));
}

/// Evaluates an expression with rows of each type of block.
macro_rules! with_rows {
    ($rows:ident: $($block:ty),* => $body:expr) => {
        $({
            let $rows = black_box::<&[$block]>(&[]);
            let _ = black_box($body);
        })*
    };
}

generic! {
    "<corelm_ops::cpu::Feature as core::iter::Extend<corelm_ops::cpu::Feature>>::extend"
        = fn(all: &mut Feature, some: &[Feature]) { all.extend(some.iter().copied()) }
    "<corelm_ops::cpu::Feature as core::iter::FromIterator<corelm_ops::cpu::Feature>>::from_iter"
        = fn(some: &[Feature]) -> Feature { some.iter().copied().collect() }
    "<corelm_ops::block::GgmlType as core::hash::Hash>::hash"
        = fn(ty: &GgmlType, hasher: &mut Sum) { ty.hash(hasher) }
    "<corelm_ops::table::Backend as core::hash::Hash>::hash"
        = fn(backend: &Backend, hasher: &mut Sum) { backend.hash(hasher) }
    "corelm_ops::reference::dot" = fn(lhs: &[f32]) {
        with_rows!(row: f32, F32, F16, Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0 => reference::dot(lhs, row));
    }
    "corelm_ops::reference::dequantize" = fn(dst: &mut [f64]) {
        with_rows!(row: f32, F32, F16, Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0 => reference::dequantize(dst, row));
    }
    "corelm_ops::reference::attend"
        = fn(dst: &mut [f64], q: &[f32], keys: &[[f32; 4]], values: &[[F16; 4]], scale: f32, scores: &mut [f64]) {
        let keys = keys.iter().map(|key| &key[..]);
        reference::attend(dst, q, keys, values.iter().map(|value| &value[..]), scale, scores);
    }
    "corelm_ops::table::Ops::available" = fn(features: Features) { drive(Ops::available(features)) }
    "corelm_ops::tile::TileMut::rows_mut" = fn(tile: &mut TileMut<'_>, first: usize) {
        black_box(tile.rows_mut::<1>(first));
        black_box(tile.rows_mut::<4>(first));
    }
    "corelm_ops::view::Rows::iter" = fn(rows: &[F32], cols: usize) {
        let _ = Rows::from_blocks(rows, cols).map(|rows| drive(rows.iter()));
        with_rows!(rows: F16, Bf16, BlockQ4_0, BlockQ4_1, BlockQ8_0
            => Rows::from_blocks(rows, cols).map(|rows| drive(rows.iter())));
    }
    "corelm_ops::cpu::with_default_floats" = fn(body: fn() -> f32) -> f32 { with_default_floats(body) }
    "corelm_ops::cpu::with_default_floats_in" = fn(state: &mut f32, body: fn(&mut f32) -> f32) -> f32 {
        with_default_floats_in(state, body)
    }
    "corelm_ops::workers::for_each_tile"
        = fn(workers: &dyn Workers, dst: TileMut<'_>, part: PartSize, scratch: &mut [Line], n: usize) {
        for_each_tile(workers, dst, part, scratch, n, &|rows, cols, mut tile, scratch| {
            black_box((rows, cols, tile.row_mut(0), scratch));
        });
    }
    "corelm::arena::Arena::alloc" = fn(arena: &mut Arena<'_>, n: usize) {
        let _ = black_box(arena.alloc(n, 0u8));
        let _ = black_box(arena.alloc(n, Line::ZERO));
    }
    "corelm::arena::Arena::alloc_with" = fn(arena: &mut Arena<'_>, n: usize, value: fn(usize) -> u64) {
        let _ = black_box(arena.alloc_with(n, value));
    }
    "corelm::arena::Layout::add" = fn(layout: Layout, n: usize) -> Result<Layout, ArenaError> {
        layout.add::<u8>(n)?.add::<u64>(n)?.add::<Line>(n)
    }
    "corelm::chat::ChatTemplate::all" = fn() { drive(ChatTemplate::all()) }
    "corelm::gguf::writer::Writer::strings"
        = fn(writer: &mut Writer<&mut [u8]>, key: &str, texts: &[&str]) -> Result<(), WriteError> {
        writer.strings(key, texts.iter())
    }
    "corelm::gguf::writer::Writer::f32s"
        = fn(writer: &mut Writer<&mut [u8]>, key: &str, values: &[f32]) -> Result<(), WriteError> {
        writer.f32s(key, values.iter().copied())
    }
    "corelm::gguf::writer::Writer::i32s"
        = fn(writer: &mut Writer<&mut [u8]>, key: &str, values: &[i32]) -> Result<(), WriteError> {
        writer.i32s(key, values.iter().copied())
    }
    "corelm::gguf::Array::iter" = fn(array: &Array<'_>) { drive(array.iter()) }
    "corelm::gguf::Array::strings" = fn(array: &Array<'_>) { drive(array.strings()) }
    "corelm::gguf::Image::metadata" = fn(image: &Image<'_>) { drive(image.metadata()) }
    "corelm::gguf::Image::tensors" = fn(image: &Image<'_>) { drive(image.tensors()) }
    "corelm::tokenizer::Tokenizer::write_index"
        = fn(tokenizer: &Tokenizer<'_, '_>, image: &Image<'_>, to: &mut Writer<&mut [u8]>) -> Result<u64, WriteError> {
        tokenizer.write_index(image, |bytes| to.data(bytes))
    }
    "<corelm::tokenizer::Piece as core::iter::Iterator>::fold"
        = fn(piece: Piece<'_>) -> usize { piece.fold(0, |sum, byte| sum ^ usize::from(byte)) }
    "corelm::tokenizer::Utf8Stream::next" = fn(stream: &mut Utf8Stream, bytes: &[u8]) {
        let bytes = &mut bytes.iter().copied();
        while let Some(chunk) = stream.next(bytes) {
            black_box(chunk);
        }
    }
    "corelm::tokenizer::Pre::names" = fn() { drive(Pre::names()) }
}
