//! `corelm quantize`: the same model with smaller matrices.

use corelm::Image;
use corelm::gguf::writer::{WriteError, Writer};
use corelm::gguf::{TensorInfo, Value};
use corelm::ops::{Block, BlockQ4_0, BlockQ8_0, F16, GgmlType, Matrix, Ops, QK};

use crate::args::QuantizeArgs;
use crate::failure::{Failure, Outcome};
use crate::file_sink::FileSink;
use crate::model::{ModelFile, ops};
use crate::progress::bar;

/// What `general.file_type` says of a file (llama.cpp's `llama_ftype`).
const FILE_TYPE_KEY: &str = "general.file_type";
/// Version 2 of the layouts of quantized blocks: the one there is.
const VERSION_KEY: &str = "general.quantization_version";
const VERSION: Value<'static> = Value::U32(2);

/// Runs the command.
pub fn run(args: &QuantizeArgs) -> Outcome {
    let (target, file_type) = match args.quant.as_str() {
        "f16" => (GgmlType::F16, 1),
        "q4_0" => (GgmlType::Q4_0, 2),
        "q8_0" => (GgmlType::Q8_0, 7),
        other => return Err(Failure::Usage(format!("no type '{other}'; there are q4_0, q8_0, f16"))),
    };
    let file = ModelFile::open(&args.input)?;
    let image = file.image()?;
    if let Some(tensor) = image.tensors().find(|tensor| !is_float(tensor.ty)) {
        let (name, ty) = (tensor.name, tensor.ty.name());
        return Err(
            file.because(format_args!("tensor {name} is {ty} already; quantize from f32, f16 or bf16"))
        );
    }
    let sink = FileSink::create(&args.output, Some(&args.input))?;
    convert(&image, target, Value::U32(file_type), sink)
}

fn is_float(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
}

/// The type a tensor gets: matrices the target's where their rows are whole blocks, F16 where they are not; vectors and
/// learned positions stay exact.
fn new_type(tensor: &TensorInfo<'_>, target: GgmlType) -> GgmlType {
    let [cols, rows, ..] = tensor.dims;
    if rows == 1 || tensor.name == "position_embd.weight" {
        return GgmlType::F32;
    }
    if cols % QK as u64 == 0 { target } else { GgmlType::F16 }
}

fn convert(image: &Image<'_>, target: GgmlType, file_type: Value<'_>, mut sink: FileSink) -> Outcome {
    let replaced = [(FILE_TYPE_KEY, file_type), (VERSION_KEY, VERSION)];
    let kept = || image.metadata().filter(|(key, _)| replaced.iter().all(|(other, _)| other != key));
    let n_keys = kept().count() + replaced.len();
    let written: Result<(), WriteError> = (|| {
        let mut writer = Writer::new(&mut sink, n_keys as u64, image.n_tensors() as u64)?;
        for (key, value) in kept().chain(replaced) {
            writer.value(key, value)?;
        }
        for tensor in image.tensors() {
            let dims = tensor.dims.get(..tensor.n_dims as usize).unwrap_or_default();
            writer.tensor(tensor.name, dims, new_type(&tensor, target))?;
        }
        let progress = bar(image.n_tensors() as u64, "quantizing");
        let mut row = Row::new(ops(None).unwrap_or(Ops::scalar()));
        for tensor in image.tensors() {
            let [cols, rows, ..] = tensor.dims.map(|dim| usize::try_from(dim).unwrap_or(usize::MAX));
            let rows = rows.saturating_mul(tensor.dims[2..].iter().product::<u64>() as usize);
            // The image has checked the dimensions against the bytes.
            if let Ok(matrix) = Matrix::new(tensor.ty, tensor.bytes, rows, cols) {
                for i in 0..rows {
                    writer.data(row.converted(matrix.slice_rows(i..i + 1), new_type(&tensor, target)))?;
                }
            }
            writer.end_tensor()?;
            progress.inc(1);
        }
        writer.finish().map(drop)
    })();
    sink.finish(written.map_err(Failure::says))
}

/// Room for one row on its way from one type to another.
struct Row {
    ops: Ops,
    values: Vec<f32>,
    bytes: Vec<u8>,
}

impl Row {
    fn new(ops: Ops) -> Row {
        Row { ops, values: Vec::new(), bytes: Vec::new() }
    }

    /// The bytes of `row`, a matrix of one row, as type `ty`.
    fn converted(&mut self, row: Matrix<'_>, ty: GgmlType) -> &[u8] {
        self.values.resize(row.cols(), 0.0);
        self.ops.dequantize(&mut self.values, row);
        self.bytes.clear();
        match ty {
            GgmlType::Q4_0 => {
                let mut blocks = vec![BlockQ4_0::ZERO; self.values.len() / QK];
                self.ops.quantize_q4_0(&mut blocks, &self.values);
                for block in &blocks {
                    self.bytes.extend(block.d.to_bits().to_le_bytes());
                    self.bytes.extend(block.qs);
                }
            }
            GgmlType::Q8_0 => {
                let mut blocks = vec![BlockQ8_0::ZERO; self.values.len() / QK];
                self.ops.quantize_q8_0(&mut blocks, &self.values);
                for block in &blocks {
                    self.bytes.extend(block.d.to_bits().to_le_bytes());
                    self.bytes.extend(block.qs.map(|q| q as u8));
                }
            }
            GgmlType::F16 => {
                self.bytes.extend(self.values.iter().flat_map(|&x| F16::new(x).to_bits().to_le_bytes()));
            }
            _ => self.bytes.extend(self.values.iter().flat_map(|x| x.to_le_bytes())),
        }
        &self.bytes
    }
}
