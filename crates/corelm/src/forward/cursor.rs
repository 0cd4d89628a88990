//! Where a pass stands: its stages in their order.

/// A part of the pass whose units do not depend on one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Token and position embeddings; angles of rotation.
    Embed,
    /// First of a layer: normalizes the residual stream for attention.
    AttnNorm,
    /// Queries, keys and values.
    Qkv,
    /// Biases and rotation; keys and values go to the cache.
    Rope,
    /// Attention.
    Attend,
    /// Rounds what attention gave to what its projection reads.
    AttnRound,
    /// Projects it back.
    AttnOut,
    /// Adds it to the residual stream.
    AttnAdd,
    /// Normalizes the residual stream for the feed-forward block.
    FfnNorm,
    /// Gate and up projections.
    FfnUp,
    /// Activation.
    Activate,
    /// Down projection.
    FfnDown,
    /// Last of a layer: adds it to the residual stream.
    FfnAdd,
    /// Normalizes the last token's residual stream.
    OutputNorm,
    /// Its logits.
    Logits,
    /// Nothing left to do.
    Done,
}

/// The next unit of work: everything before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) layer: usize,
    pub(crate) stage: Stage,
    pub(crate) unit: usize,
}

impl Cursor {
    /// The start of a pass.
    pub(crate) const START: Self = Self { layer: 0, stage: Stage::Embed, unit: 0 };

    /// The first unit of the stage behind this one, in a model of `n_layers`.
    pub(crate) fn next_stage(self, n_layers: usize) -> Self {
        let mut layer = self.layer;
        let stage = match self.stage {
            Stage::Embed => Stage::AttnNorm,
            Stage::AttnNorm => Stage::Qkv,
            Stage::Qkv => Stage::Rope,
            Stage::Rope => Stage::Attend,
            Stage::Attend => Stage::AttnRound,
            Stage::AttnRound => Stage::AttnOut,
            Stage::AttnOut => Stage::AttnAdd,
            Stage::AttnAdd => Stage::FfnNorm,
            Stage::FfnNorm => Stage::FfnUp,
            Stage::FfnUp => Stage::Activate,
            Stage::Activate => Stage::FfnDown,
            Stage::FfnDown => Stage::FfnAdd,
            Stage::FfnAdd => {
                layer = layer.saturating_add(1);
                if layer < n_layers { Stage::AttnNorm } else { Stage::OutputNorm }
            }
            Stage::OutputNorm => Stage::Logits,
            Stage::Logits | Stage::Done => Stage::Done,
        };
        Self { layer, stage, unit: 0 }
    }
}
