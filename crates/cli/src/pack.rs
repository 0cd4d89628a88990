//! `corelm pack`: the same model with its quantized matrices in panels, as products read them fastest, and with the index
//! of its vocabulary, which is used in place.

use corelm::Image;
use corelm::arena::{Arena, Layout};
use corelm::error::ModelError;
use corelm::gguf::TensorInfo;
use corelm::gguf::writer::{WriteError, Writer};
use corelm::ops::{GgmlType, Matrix, Ops};
use corelm::tokenizer::{INDEX_TENSOR, Tokenizer};

use crate::args::PackArgs;
use crate::failure::{Failure, Outcome};
use crate::file_sink::FileSink;
use crate::model::{ModelFile, Region, ops};
use crate::progress::bar;

/// Runs the command.
pub fn run(args: &PackArgs) -> Outcome {
    let file = ModelFile::open(&args.input)?;
    let image = file.image()?;
    let has_output = image.tensors().any(|tensor| tensor.name == "output.weight");
    let types: Vec<GgmlType> = weights(&image).map(|tensor| new_type(&tensor, has_output)).collect();
    let index = index(&file, &image)?;
    let old_index = image.tensor(INDEX_TENSOR).map_or(&[][..], |tensor| tensor.bytes);
    if weights(&image).zip(&types).all(|(tensor, &ty)| tensor.ty == ty) && index == old_index {
        let packable = "matrices of q4_0, q4_1 and q8_0 can be, and vocabularies of gpt2 and llama";
        return Err(file.because(format_args!("nothing to pack; {packable}")));
    }
    let sink = FileSink::create(&args.output, Some(&args.input))?;
    pack(&image, &types, &index, ops(None)?, sink)
}

/// All tensors but the index.
fn weights<'m>(image: &Image<'m>) -> impl Iterator<Item = TensorInfo<'m>> + use<'m> {
    image.tensors().filter(|tensor| tensor.name != INDEX_TENSOR)
}

/// The index of the vocabulary; empty where there is no vocabulary, none that this engine knows or none that has an index.
fn index(file: &ModelFile, image: &Image<'_>) -> Outcome<Vec<u8>> {
    let is_without = |error: &ModelError| {
        matches!(error, ModelError::MissingKey { .. } | ModelError::UnsupportedName { .. })
    };
    let layout = match Tokenizer::layout(image, Layout::new()) {
        Err(error) if is_without(&error) => return Ok(Vec::new()),
        layout => layout.map_err(|error| file.because(error))?,
    };
    let mut region = Region::new(layout.bytes())?;
    let mut arena = Arena::new(region.bytes());
    let tokenizer = Tokenizer::new(image, &mut arena).map_err(|error| file.because(error))?;
    let mut index = Vec::new();
    let written = tokenizer.write_index(image, |bytes| {
        index.extend_from_slice(bytes);
        Ok(())
    });
    written.map(|_| index).map_err(Failure::says)
}

/// The type a tensor gets: that of panels where there is one. Rows of embeddings are looked up one by one, so they stay
/// as they are unless products read them too.
fn new_type(tensor: &TensorInfo<'_>, has_output: bool) -> GgmlType {
    let is_looked_up =
        tensor.name == "position_embd.weight" || (tensor.name == "token_embd.weight" && has_output);
    tensor.ty.packed().filter(|_| !is_looked_up).unwrap_or(tensor.ty)
}

fn pack(image: &Image<'_>, types: &[GgmlType], index: &[u8], ops: Ops, mut sink: FileSink) -> Outcome {
    let written: Result<(), WriteError> = (|| {
        let n_keys = image.metadata().count();
        let n_tensors = types.len().saturating_add((!index.is_empty()).into()) as u64;
        let mut writer = Writer::new(&mut sink, n_keys as u64, n_tensors)?;
        for (key, value) in image.metadata() {
            writer.value(key, value)?;
        }
        for (tensor, &ty) in weights(image).zip(types) {
            let dims = tensor.dims.get(..tensor.n_dims as usize).unwrap_or_default();
            writer.tensor(tensor.name, dims, ty)?;
        }
        if !index.is_empty() {
            writer.tensor(INDEX_TENSOR, &[(index.len() / size_of::<f32>()) as u64], GgmlType::F32)?;
        }
        let progress = bar(n_tensors, "packing");
        let mut packed = Vec::new();
        for (tensor, &ty) in weights(image).zip(types) {
            let [cols, rows @ ..] = tensor.dims.map(|dim| usize::try_from(dim).unwrap_or(usize::MAX));
            let rows = rows.iter().fold(1usize, |n, &dim| n.saturating_mul(dim));
            packed.resize(tensor.bytes.len(), 0);
            // The image has checked the dimensions against the bytes.
            let matrix = Matrix::new(tensor.ty, tensor.bytes, rows, cols);
            let is_packed =
                ty != tensor.ty && matrix.is_ok_and(|matrix| ops.pack(&mut packed, matrix).is_ok());
            writer.data(if is_packed { &packed } else { tensor.bytes })?;
            writer.end_tensor()?;
            progress.inc(1);
        }
        if !index.is_empty() {
            writer.data(index)?;
            writer.end_tensor()?;
        }
        writer.finish().map(drop)
    })();
    sink.finish(written.map_err(Failure::says))
}
