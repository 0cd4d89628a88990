//! Target `plan`: any bytes are a file that is refused, or one whose parts lie in it and whose memory is known.

use std::cell::RefCell;

use corelm::Error;
use corelm::arena::Layout;
use corelm::chat::ChatTemplate;
use corelm::config::Config;
use corelm::gguf::{Image, Value};
use corelm::kv_cache::KvType;
use corelm::plan::{MemoryPlan, SessionConfig};
use corelm::tokenizer::Tokenizer;
use corelm::weights::Weights;

use crate::files;

/// What plans are made for.
const SESSIONS: [SessionConfig; 4] = [
    SessionConfig { n_ctx: 24, n_batch: 8, kv_type: KvType::F16, n_workers: 1 },
    SessionConfig { n_ctx: 1, n_batch: 1, kv_type: KvType::F32, n_workers: 3 },
    SessionConfig { n_ctx: 3, n_batch: 2, kv_type: KvType::Q8_0, n_workers: 1 },
    SessionConfig { n_ctx: usize::MAX, n_batch: 512, kv_type: KvType::F32, n_workers: 1 },
];

/// Zeros behind every input, for tensors to lie in: no plan reads any, so no input has to bring them.
pub(crate) const N_ZEROS: usize = 16 << 10;

/// Small files of every kind, without their data.
pub fn seeds() -> Vec<Vec<u8>> {
    let without_data = |file: &files::File| {
        let n_data: usize = file.tensors.iter().map(|tensor| tensor.data.len().next_multiple_of(32)).sum();
        let mut bytes = file.bytes();
        bytes.truncate(bytes.len() - n_data);
        bytes
    };
    files::tiny_models().iter().map(without_data).collect()
}

/// Panics unless `input`, with zeros behind it and without, is answered as it must be, and the same at another address.
pub fn check(input: &[u8]) {
    thread_local! {
        static FILE: RefCell<Vec<u8>> = RefCell::default();
    }
    FILE.with_borrow_mut(|file| {
        file.clear();
        file.extend_from_slice(input);
        file.resize(input.len() + N_ZEROS, 0);
        let answer = plan(file);
        if input.len().is_multiple_of(8) {
            file.insert(0, 0);
            assert_eq!(plan(&file[1..]), answer, "an address changes the answer");
        }
        if let Err(error) = answer {
            assert!(error.code() != 0 && !error.to_string().is_empty());
        }
    });
    if input.len() % 4 == 1 {
        let answer = plan(input);
        assert!(answer.as_ref().is_err() || answer.is_ok_and(|plans| !plans.is_empty()));
    }
}

/// The bytes of each plan; those that cannot be are left out.
pub(crate) fn plan(file: &[u8]) -> Result<Vec<usize>, Error> {
    let image = Image::parse(file)?;
    check_image(&image, file);
    if let Ok(template) = ChatTemplate::of(&image) {
        assert!(ChatTemplate::by_name(template.name()).is_ok());
    }
    let tokenizer = Tokenizer::layout(&image, Layout::new()).map(Layout::bytes);
    let config = Config::from_image(&image)?;
    check_config(&config);
    let mut plans = Vec::new();
    for session in &SESSIONS {
        let plan = match MemoryPlan::new(&image, &config, session) {
            Ok(plan) => plan,
            Err(error) if plans.is_empty() => return Err(error.into()),
            Err(_) => continue,
        };
        let items = plan.items();
        assert!(tokenizer.is_ok(), "a plan without a tokenizer");
        assert!(plan.model_bytes() <= plan.bytes() && plan.session_bytes() <= plan.bytes());
        assert!(items.weights + items.tokenizer <= plan.model_bytes());
        let packed = Weights::packed_layout(&image, &config, Layout::new())?;
        assert!(plan.packed_len() >= packed.used());
        // Everything in a file stands in it: a plan for a file of a few KB cannot be for more than a few times that.
        assert!(
            session.n_ctx > 24 || plan.bytes() < (1 << 20) + 300 * file.len(),
            "{} bytes for {}",
            plan.bytes(),
            file.len()
        );
        plans.push(plan.bytes());
    }
    Ok(plans)
}

/// Checks that keys, values and tensors are in the file, and found.
fn check_image(image: &Image<'_>, file: &[u8]) {
    let is_inside = |bytes: &[u8]| {
        let (all, part) = (file.as_ptr_range(), bytes.as_ptr_range());
        bytes.is_empty() || all.start <= part.start && part.end <= all.end
    };
    assert_eq!(image.metadata().count(), image.n_keys());
    for (key, value) in image.metadata() {
        assert!(is_inside(key.as_bytes()));
        assert_eq!(image.get(key).map(Value::ty), Some(value.ty()), "{key} is not found");
        match value {
            Value::String(text) => assert!(is_inside(text)),
            Value::Array(array) => {
                assert!(is_inside(array.bytes()));
                assert_eq!(array.iter().count(), array.len());
                assert!(array.strings().all(is_inside));
                assert!(array.iter().all(|value| value.ty() == array.element()));
            }
            _ => {}
        }
    }
    assert_eq!(image.tensors().count(), image.n_tensors());
    let mut places = Vec::new();
    for tensor in image.tensors() {
        assert!(is_inside(tensor.name.as_bytes()) && is_inside(tensor.bytes));
        assert_eq!(image.tensor(tensor.name).map(|found| found.index), Some(tensor.index));
        let n_values = tensor.dims.iter().product::<u64>() as usize;
        let n_bytes = n_values / tensor.ty.block_values() * tensor.ty.block_bytes().get();
        assert_eq!(tensor.bytes.len(), n_bytes, "{}", tensor.name);
        places.push(tensor.bytes.as_ptr_range());
    }
    places.sort_by_key(|place| place.start);
    assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start), "tensors share bytes");
}

/// Checks what everything behind takes for granted.
fn check_config(config: &Config) {
    let sizes = [config.dim, config.hidden_dim, config.n_layers, config.n_heads, config.n_kv_heads];
    assert!(sizes.iter().all(|&size| (1..=65_536).contains(&size)), "{config:?}");
    assert_eq!(config.n_heads, config.n_kv_heads * config.group.get());
    assert!(config.n_layers <= 512 && (1..=1 << 20).contains(&config.vocab_size));
    assert!((1..=65_536).contains(&config.q_dim()) && config.head_dim >= 1);
    assert!(config.norm_eps > 0.0 && config.norm_eps <= 1.0);
    if let Some(rope) = config.rope {
        assert!((2..=config.head_dim).contains(&rope.n_dims) && rope.n_dims.is_multiple_of(2));
        assert!(rope.base >= 1.0 && rope.base.is_finite() && rope.scale > 0.0 && rope.scale.is_finite());
    }
}
