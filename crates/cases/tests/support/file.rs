//! A model file taken apart into keys and tensors, each as bytes, and put together again: so it may say anything.

use corelm::gguf::{Image, Value, ValueType};
use corelm_cases::synth::{SynthConfig, model_bytes, write_model};

/// A value as it stands in a file: its type, then its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw(pub Vec<u8>);

/// A tensor: whatever the file is to say of it, and its data.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: Vec<u8>,
    pub dims: Vec<u64>,
    pub ty: u32,
    pub data: Vec<u8>,
    /// Added to the offset that its data has.
    pub shift: u64,
}

/// A file in its parts.
#[derive(Clone, Debug)]
pub struct File {
    pub keys: Vec<(String, Raw)>,
    pub tensors: Vec<Tensor>,
}

impl Raw {
    fn scalar(ty: ValueType, bytes: &[u8]) -> Self {
        Self([&ty.id().to_le_bytes()[..], bytes].concat())
    }

    pub fn u32(x: u32) -> Self {
        Self::scalar(ValueType::U32, &x.to_le_bytes())
    }

    pub fn i32(x: i32) -> Self {
        Self::scalar(ValueType::I32, &x.to_le_bytes())
    }

    pub fn u64(x: u64) -> Self {
        Self::scalar(ValueType::U64, &x.to_le_bytes())
    }

    pub fn f32(x: f32) -> Self {
        Self::scalar(ValueType::F32, &x.to_le_bytes())
    }

    pub fn f64(x: f64) -> Self {
        Self::scalar(ValueType::F64, &x.to_le_bytes())
    }

    pub fn bool(x: bool) -> Self {
        Self::scalar(ValueType::Bool, &[x.into()])
    }

    pub fn string(text: impl AsRef<[u8]>) -> Self {
        Self::scalar(ValueType::String, &string(text.as_ref()))
    }

    /// An array of elements that all have these bytes.
    pub fn array(element: ValueType, elements: &[Vec<u8>]) -> Self {
        let head = [&element.id().to_le_bytes()[..], &(elements.len() as u64).to_le_bytes()].concat();
        Self::scalar(ValueType::Array, &[head, elements.concat()].concat())
    }

    pub fn i32s(values: &[i32]) -> Self {
        Self::array(ValueType::I32, &values.iter().map(|x| x.to_le_bytes().to_vec()).collect::<Vec<_>>())
    }

    pub fn f32s(values: &[f32]) -> Self {
        Self::array(ValueType::F32, &values.iter().map(|x| x.to_le_bytes().to_vec()).collect::<Vec<_>>())
    }

    pub fn strings(values: &[impl AsRef<[u8]>]) -> Self {
        Self::array(ValueType::String, &values.iter().map(|x| string(x.as_ref())).collect::<Vec<_>>())
    }
}

impl From<Value<'_>> for Raw {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::U32(x) => Self::u32(x),
            Value::F32(x) => Self::f32(x),
            Value::Bool(x) => Self::bool(x),
            Value::String(x) => Self::string(x),
            Value::Array(x) => {
                let head = [x.element().id().to_le_bytes().to_vec(), (x.len() as u64).to_le_bytes().to_vec()];
                Self::scalar(ValueType::Array, &[head.concat(), x.bytes().to_vec()].concat())
            }
            other => panic!("{other:?} is in no file that is made here"),
        }
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

impl File {
    /// The model of a configuration.
    pub fn synth(config: &SynthConfig) -> Self {
        let mut bytes = vec![0; model_bytes(config).unwrap() as usize];
        assert!(write_model(config, &mut bytes[..]).unwrap().is_empty());
        let image = Image::parse(&bytes).unwrap();
        let tensors = image.tensors().map(|tensor| Tensor {
            name: tensor.name.into(),
            dims: tensor.dims[..tensor.n_dims as usize].to_vec(),
            ty: tensor.ty.id(),
            data: tensor.bytes.to_vec(),
            shift: 0,
        });
        let file = Self {
            keys: image.metadata().map(|(key, value)| (key.to_string(), value.into())).collect(),
            tensors: tensors.collect(),
        };
        assert!(file.bytes() == bytes, "what was taken apart is put together again");
        file
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Raw> {
        self.keys.iter().find(|entry| entry.0 == key).map(|entry| &entry.1)
    }

    /// The file with this value for `key`, or without the key.
    pub fn with(&self, key: &str, value: Option<Raw>) -> Self {
        let mut file = self.clone();
        let at = file.keys.iter().position(|entry| entry.0 == key);
        match (at, value) {
            (Some(at), Some(value)) => file.keys[at].1 = value,
            (Some(at), None) => drop(file.keys.remove(at)),
            (None, Some(value)) => file.keys.push((key.into(), value)),
            (None, None) => {}
        }
        file
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name.as_bytes())
    }

    /// The file with this tensor, at the place of the one that has its name if there is one.
    pub fn with_tensor(&self, tensor: Tensor) -> Self {
        let mut file = self.clone();
        match file.tensors.iter_mut().find(|other| other.name == tensor.name) {
            Some(other) => *other = tensor,
            None => file.tensors.push(tensor),
        }
        file
    }

    /// The file without the tensor of a name.
    pub fn without_tensor(&self, name: &str) -> Self {
        let mut file = self.clone();
        file.tensors.retain(|tensor| tensor.name != name.as_bytes());
        file
    }

    /// The bytes of the file; data lies in the order of the tensors at multiples of 32.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_at(32, 0)
    }

    /// The same with data at multiples of `alignment`, `gap` bytes or more from tensor to tensor.
    pub fn bytes_at(&self, alignment: usize, gap: usize) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend(string(key.as_bytes()));
            bytes.extend(&value.0);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            bytes.extend(string(&tensor.name));
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(tensor.ty.to_le_bytes());
            bytes.extend((data.len() as u64).wrapping_add(tensor.shift).to_le_bytes());
            data.extend(&tensor.data);
            data.resize((data.len() + gap).next_multiple_of(alignment), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        [bytes, data].concat()
    }
}
