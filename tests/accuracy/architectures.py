"""Small models of many kinds, random weights, nothing downloaded: each name makes a function that runs one step."""

import torch
import transformers
from torch import nn
from torch.nn import functional

transformers.logging.set_verbosity_error()

TOKENS = torch.randint(1, 60, (2, 9), generator=torch.Generator().manual_seed(0))
PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 1])
SIZES = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
DECODER = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 32}
VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
          "image_size": 32, "patch_size": 8}  # fmt: skip
TEXT = {"input_ids": TOKENS, "labels": TOKENS}
LABELLED = {"pixel_values": PICTURES, "labels": CLASSES}
WHISPER = {
    "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 8,
    "max_source_positions": 20, "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "begin_suppress_tokens": [],
}  # fmt: skip
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}

# The model's class, its configuration's class and settings, its inputs.
TRANSFORMERS = {
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config", {
        "vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "bos_token_id": 0,
        "eos_token_id": 0}, TEXT),
    "BERT": ("BertForSequenceClassification", "BertConfig", SIZES, {
        "input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS), "labels": CLASSES}),
    "DeBERTa": ("DebertaV2ForMaskedLM", "DebertaV2Config", {
        **SIZES, "max_position_embeddings": 32, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, TEXT),
    "FNet": ("FNetForMaskedLM", "FNetConfig", {
        "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}, TEXT),
    "T5": ("T5ForConditionalGeneration", "T5Config", {
        "vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0}, TEXT),
    "Llama": ("LlamaForCausalLM", "LlamaConfig", DECODER, TEXT),
    "Mistral with a sliding window": ("MistralForCausalLM", "MistralConfig", {**DECODER, "sliding_window": 4}, TEXT),
    "Qwen2": ("Qwen2ForCausalLM", "Qwen2Config", DECODER, TEXT),
    "Gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**DECODER, "head_dim": 4}, TEXT),
    "Mixtral": ("MixtralForCausalLM", "MixtralConfig", {**DECODER, "num_local_experts": 4}, TEXT),
    "Qwen2-MoE": ("Qwen2MoeForCausalLM", "Qwen2MoeConfig", {
        **DECODER, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
        "num_experts_per_tok": 2}, TEXT),
    "Mamba": ("MambaForCausalLM", "MambaConfig", {
        "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, TEXT),
    "Mamba2": ("Mamba2ForCausalLM", "Mamba2Config", {
        "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "num_heads": 4, "head_dim": 8,
        "n_groups": 1, "chunk_size": 4}, TEXT),
    "Whisper": ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER, {
        "input_features": torch.rand(2, 8, 40), "labels": TOKENS}),
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2Config", {
        "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 32, "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3),
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}, {
        "input_values": torch.rand(2, 400), "labels": torch.randint(1, 30, (2, 5))}),
    "ViT": ("ViTForImageClassification", "ViTConfig", VISION, LABELLED),
    "CLIP": ("CLIPModel", "CLIPConfig", {
        "text_config": {**SIZES, "max_position_embeddings": 32}, "vision_config": VISION, "projection_dim": 8}, {
        "input_ids": TOKENS, "pixel_values": PICTURES, "return_loss": True}),
    "Swin": ("SwinForImageClassification", "SwinConfig", {
        "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2],
        "window_size": 4}, LABELLED),
    "ConvNeXt": ("ConvNextForImageClassification", "ConvNextConfig", {
        "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}, LABELLED),
    "ResNet": ("ResNetForImageClassification", "ResNetConfig", STAGES, LABELLED),
    "MobileNet": ("MobileNetV2ForImageClassification", "MobileNetV2Config", {
        "image_size": 32, "depth_multiplier": 0.35}, LABELLED),
    "SegFormer": ("SegformerForSemanticSegmentation", "SegformerConfig", {
        "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 8}, {
        "pixel_values": torch.rand(2, 3, 64, 64), "labels": torch.randint(0, 2, (2, 64, 64))}),
}  # fmt: skip


def _transformer(name):
    model_class, config_class, settings, inputs = TRANSFORMERS[name]
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**settings)).train()

    def step():
        model(**inputs).loss.backward()

    return step


def _detr():
    backbone = transformers.ResNetConfig(**STAGES, out_features=["stage4"])
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=16,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_queries=4,
    )  # fmt: skip
    model = transformers.DetrModel(config).train()
    return lambda: model(pixel_values=torch.rand(1, 3, 64, 64)).last_hidden_state.sum().backward()


class Recommender(nn.Module):
    """DLRM: bags of embeddings, products between features, two small towers."""

    def __init__(self):
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(50, 8, mode=mode) for mode in ("sum", "mean"))
        self.bottom, self.top = nn.Linear(4, 8), nn.Linear(8 + 3, 1)

    def forward(self, dense, indices, offsets):
        features = torch.stack([self.bottom(dense).relu(), *(bag(indices, offsets) for bag in self.bags)], 1)
        rows, columns = torch.tril_indices(3, 3, -1).unbind()
        products = (features @ features.mT)[:, rows, columns]
        return self.top(torch.cat([features[:, 0], products], 1)).sigmoid()


def _recommender():
    model, clicks = Recommender(), torch.tensor([[0.0], [1.0]])
    arguments = torch.rand(2, 4), torch.tensor([1, 4, 2, 4]), torch.tensor([0, 2])
    return lambda: functional.binary_cross_entropy(model(*arguments), clicks).backward()


class Diffusion(nn.Module):
    """A U-Net's parts: group norm, convolution down and up, attention at the bottom, a time embedding."""

    def __init__(self):
        super().__init__()
        self.enter, self.down, self.up = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, 2, 1),
            nn.Conv2d(16, 8, 3, 1, 1),
        )
        self.norm, self.leave, self.time = nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 3, 3, padding=1), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, time):
        angles = time[:, None] * torch.exp(torch.arange(4) * -0.5)
        shift = self.time(torch.cat([angles.sin(), angles.cos()], 1))[..., None, None]
        high = functional.silu(self.norm(self.enter(x))) + shift
        low = functional.avg_pool2d(self.down(high), 2)
        flat = low.flatten(2).mT
        low = (flat + self.attention(flat, flat, flat, need_weights=False)[0]).mT.unflatten(2, low.shape[2:])
        return self.leave(self.up(torch.cat([functional.interpolate(low, scale_factor=4), high], 1)))


def _diffusion():
    model, picture = Diffusion(), torch.rand(2, 3, 16, 16)
    return lambda: functional.mse_loss(model(picture, torch.rand(2)), picture).backward()


def _recurrent(kind):
    def make():
        model, head = getattr(nn, kind)(8, 6, 2, bidirectional=True), nn.Linear(12, 3)
        x = torch.rand(5, 2, 8)
        return lambda: functional.cross_entropy(head(model(x)[0][-1]), CLASSES).backward()

    return make


def _flows():
    """Resampling at learnt places, and losses of detectors and rankers."""
    grid = torch.rand(1, 4, 4, 2, requires_grad=True)
    picture = torch.rand(1, 3, 8, 8, requires_grad=True)

    def step():
        padded = functional.pad(picture, (1, 1, 1, 1), mode="reflect")
        sampled = functional.grid_sample(padded, grid, align_corners=False)
        larger = functional.interpolate(sampled, size=(6, 6), mode="bicubic", antialias=True)
        pooled = functional.adaptive_max_pool2d(larger, 2).flatten(1)
        loss = functional.smooth_l1_loss(pooled, torch.zeros_like(pooled)) + functional.huber_loss(pooled, pooled + 2)
        loss = loss + torch.cdist(pooled, pooled + 1).sum() + pooled.sort(1).values[:, 0].sum()
        (loss + functional.cosine_embedding_loss(pooled, pooled + 1, torch.ones(1))).backward()

    return step


def _update(kind, **switches):
    def make():
        model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)))  # 40 tensors: more than Kineto lists
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, weight_decay=0.01, **switches)
        model(torch.rand(2, 4)).sum().backward()
        return optimizer.step

    return make


MODELS = {
    **{name: (lambda name=name: _transformer(name)) for name in TRANSFORMERS},
    "DETR": _detr, "DLRM": _recommender, "U-Net": _diffusion, "LSTM": _recurrent("LSTM"), "GRU": _recurrent("GRU"),
    "resampling and losses": _flows,
}  # fmt: skip
KINDS = ("AdamW", "Adam", "SGD")
UPDATES = {
    **{f"{kind} {how}": _update(kind, **{how: True}) for kind in KINDS for how in ("fused", "foreach")},
    "AdamW plain": _update("AdamW", foreach=False), "SGD plain": _update("SGD", foreach=False),
    "SGD with momentum": _update("SGD", momentum=0.9, nesterov=True), "AMSGrad": _update("AdamW", amsgrad=True),
    "Adagrad fused": _update("Adagrad", fused=True), "RMSprop": _update("RMSprop", foreach=True),
}  # fmt: skip
