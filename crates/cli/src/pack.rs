//! `corelm pack`: the same model with its quantized matrices in panels, as products read them fastest.

use corelm::Image;
use corelm::gguf::TensorInfo;
use corelm::gguf::writer::{WriteError, Writer};
use corelm::ops::{GgmlType, Matrix, Ops};

use crate::args::PackArgs;
use crate::failure::{Failure, Outcome};
use crate::file_sink::FileSink;
use crate::model::{ModelFile, ops};
use crate::progress::bar;

/// Runs the command.
pub fn run(args: &PackArgs) -> Outcome {
    let file = ModelFile::open(&args.input)?;
    let image = file.image()?;
    let has_output = image.tensors().any(|tensor| tensor.name == "output.weight");
    let types: Vec<GgmlType> = image.tensors().map(|tensor| new_type(&tensor, has_output)).collect();
    if image.tensors().zip(&types).all(|(tensor, &ty)| tensor.ty == ty) {
        return Err(file.because("nothing to pack; matrices of q4_0, q4_1 and q8_0 can be"));
    }
    let sink = FileSink::create(&args.output)?;
    pack(&image, &types, ops(None)?, sink)
}

/// The type a tensor gets: that of panels where there is one. Rows of embeddings are looked up one by one, so they stay
/// as they are unless products read them too.
fn new_type(tensor: &TensorInfo<'_>, has_output: bool) -> GgmlType {
    let is_looked_up =
        tensor.name == "position_embd.weight" || (tensor.name == "token_embd.weight" && has_output);
    tensor.ty.packed().filter(|_| !is_looked_up).unwrap_or(tensor.ty)
}

fn pack(image: &Image<'_>, types: &[GgmlType], ops: Ops, mut sink: FileSink) -> Outcome {
    let written: Result<(), WriteError> = (|| {
        let n_keys = image.metadata().count();
        let mut writer = Writer::new(&mut sink, n_keys as u64, image.n_tensors() as u64)?;
        for (key, value) in image.metadata() {
            writer.value(key, value)?;
        }
        for (tensor, &ty) in image.tensors().zip(types) {
            let dims = tensor.dims.get(..tensor.n_dims as usize).unwrap_or_default();
            writer.tensor(tensor.name, dims, ty)?;
        }
        let progress = bar(image.n_tensors() as u64, "packing");
        let mut packed = Vec::new();
        for (tensor, &ty) in image.tensors().zip(types) {
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
        writer.finish().map(drop)
    })();
    sink.finish(written.map_err(Failure::says))
}
