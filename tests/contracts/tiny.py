"""One tiny random model of every joint-attention class of diffusers, and inputs for it.

`TINY` is plain data: "init" are constructor arguments, "inputs" are those of forward, in a small language::

    ("f", *shape) normal numbers   ("z", *shape) zeros   ("i", high, *shape) random integers
    ("v", [...]) floats   ("vi", [...]) integers   ("vb", [...]) booleans
    ("ones", *shape) integer ones   ("bones", *shape) true   ("ids", T, H, W, axes) positions t, h, w, 0
    ("list", [...]) a list of such values   ("py", value) the value itself

Five text tokens and a grid of 4 x 6 image tokens, batch 2, unless a comment says otherwise.
"""

from __future__ import annotations

from typing import Any

import torch

TINY: dict[str, dict[str, Any]] = {
    "SD3Transformer2DModel": {
        "init": {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 16,
            "pos_embed_max_size": 8,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "pooled_projections": ("f", 2, 16),
            "timestep": ("v", [500.0, 500.0]),
        },
    },
    "FluxTransformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 16,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 4, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "pooled_projections": ("f", 2, 16),
            "timestep": ("v", [0.5, 0.5]),
            "guidance": ("v", [3.5, 3.5]),
            "img_ids": ("ids", 1, 4, 6, 3),
            "txt_ids": ("z", 5, 3),
        },
    },
    "Flux2Transformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "timestep_guidance_channels": 32,
            "mlp_ratio": 2.0,
            "axes_dims_rope": (4, 4, 4, 4),
            "guidance_embeds": True,
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
            "guidance": ("v", [4.0, 4.0]),
            "img_ids": ("ids", 1, 4, 6, 4),
            "txt_ids": ("z", 5, 4),
        },
    },
    "Flux3Transformer2DModel": {
        "init": {
            "in_channels": 4,
            "cond_in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "timestep_channels": 32,
            "mlp_ratio": 2.0,
            "axes_dims_rope": (4, 4, 4, 4),
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
            "img_ids": ("ids", 1, 4, 6, 4),
            "txt_ids": ("z", 5, 4),
        },
    },
    "ChromaTransformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (4, 4, 8),
            "approximator_num_channels": 8,
            "approximator_hidden_dim": 16,
            "approximator_layers": 1,
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
            "img_ids": ("ids", 1, 4, 6, 3),
            "txt_ids": ("z", 5, 3),
        },
    },
    "BriaTransformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": [4, 4, 8],
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [500.0, 500.0]),
            "img_ids": ("ids", 1, 4, 6, 3),
            "txt_ids": ("z", 5, 3),
        },
    },
    "BriaFiboTransformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": [4, 4, 8],
            "text_encoder_dim": 12,
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "text_encoder_layers": ("list", [("f", 2, 5, 12), ("f", 2, 5, 12), ("f", 2, 5, 12)]),
            "timestep": ("v", [500.0, 500.0]),
            "img_ids": ("ids", 1, 4, 6, 3),
            "txt_ids": ("z", 5, 3),
        },
    },
    "BriaFibo2Transformer2DModel": {
        "init": {
            "in_channels": 4,
            "patch_size": 2,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "cap_feat_dim": 12,
            "injection_layer_ids": (1,),
            "perceiver_num_layers": 1,
            "min_num_gist_tokens": 4,
            "max_num_gist_tokens": 8,
            "gist_step": 4,
            "gist_min_text_len": 4,
            "gist_max_text_len": 64,
            "axes_dims": (4, 4, 8),
            "axes_lens": (64, 16, 16),
        },
        # encoder_hidden_states is (B, 1 + len(injection_layer_ids), L, cap_feat_dim)
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "timestep": ("v", [0.5, 0.5]),
            "encoder_hidden_states": ("f", 2, 2, 5, 12),
        },
    },
    "LongCatImageTransformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 16,
            "axes_dims_rope": [4, 4, 8],
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
            "img_ids": ("ids", 1, 4, 6, 3),
            "txt_ids": ("z", 5, 3),
        },
    },
    "OvisImageTransformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (4, 4, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
            "img_ids": ("ids", 1, 4, 6, 3),
            "txt_ids": ("z", 5, 3),
        },
    },
    "AuraFlowTransformer2DModel": {
        "init": {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "caption_projection_dim": 32,
            "out_channels": 4,
            "pos_embed_max_size": 64,
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
        },
    },
    "CogView3PlusTransformer2DModel": {
        "init": {
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "out_channels": 4,
            "text_embed_dim": 12,
            "time_embed_dim": 16,
            "condition_dim": 2,
            "pos_embed_max_size": 8,
            "sample_size": 16,
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "timestep": ("vi", [500, 500]),
            "original_size": ("v", [[8.0, 12.0], [8.0, 12.0]]),
            "target_size": ("v", [[8.0, 12.0], [8.0, 12.0]]),
            "crop_coords": ("z", 2, 2),
        },
    },
    "CogView4Transformer2DModel": {
        "init": {
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "out_channels": 4,
            "text_embed_dim": 12,
            "time_embed_dim": 16,
            "condition_dim": 2,
            "sample_size": 16,
            "rope_axes_dim": (16, 16),
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "timestep": ("v", [500.0, 500.0]),
            "original_size": ("v", [[8.0, 12.0], [8.0, 12.0]]),
            "target_size": ("v", [[8.0, 12.0], [8.0, 12.0]]),
            "crop_coords": ("z", 2, 2),
        },
    },
    "GlmImageTransformer2DModel": {
        "init": {
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "text_embed_dim": 12,
            "time_embed_dim": 16,
            "condition_dim": 2,
            "prior_vq_quantizer_codebook_size": 32,
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "prior_token_id": ("i", 32, 2, 24),
            "prior_token_drop": ("vb", [[False] * 24] * 2),
            "timestep": ("v", [499.0, 499.0]),
            "target_size": ("v", [[8.0, 12.0], [8.0, 12.0]]),
            "crop_coords": ("z", 2, 2),
        },
    },
    "HiDreamImageTransformer2DModel": {
        "init": {
            "patch_size": 2,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "caption_channels": [12, 10],
            "text_emb_dim": 16,
            "num_routed_experts": 2,
            "num_activated_experts": 1,
            "axes_dims_rope": (4, 4, 8),
            "max_resolution": (16, 16),
            "llama_layers": [0, 1],
        },
        # non-square latents are padded to max_seq tokens inside the model -> use a square one: 4x4 grid
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 8),
            "timesteps": ("v", [500.0, 500.0]),
            "encoder_hidden_states_t5": ("f", 2, 3, 12),
            "encoder_hidden_states_llama3": ("f", 2, 2, 5, 10),
            "pooled_embeds": ("f", 2, 16),
        },
    },
    "HunyuanImageTransformer2DModel": {
        "init": {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "num_refiner_layers": 1,
            "mlp_ratio": 2.0,
            "patch_size": (1, 1),
            "text_embed_dim": 12,
            "text_embed_2_dim": 10,
            "rope_axes_dim": (8, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 4, 6),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "encoder_attention_mask": ("ones", 2, 5),
            "encoder_hidden_states_2": ("f", 2, 3, 10),
            "encoder_attention_mask_2": ("ones", 2, 3),
        },
    },
    "QwenImageTransformer2DModel": {
        "init": {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (4, 4, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 16),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "encoder_hidden_states_mask": ("ones", 2, 5),
            "timestep": ("v", [0.5, 0.5]),
            "img_shapes": ("py", [[(1, 4, 6)], [(1, 4, 6)]]),
        },
    },
    "QwenImage21Transformer2DModel": {
        "init": {
            "patch_size": 1,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "context_in_dim": 12,
            "mlp_ratio": 2,
            "axes_dims_rope": (4, 4, 8),
        },
        # img_mask spans text tokens (False) + one slot per 2x2 group of target latents (True): 5 + 24/4
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "timestep": ("v", [0.5]),
            "img_shapes": ("py", [[(1, 4, 6)]]),
            "img_mask": ("vb", [[False] * 5 + [True] * 6] * 2),
        },
    },
    "JoyImageEditTransformer3DModel": {
        "init": {
            "patch_size": [1, 2, 2],
            "in_channels": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "text_dim": 12,
            "mlp_width_ratio": 2.0,
            "num_layers": 2,
            "rope_dim_list": [4, 4, 8],
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 1, 8, 12),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
        },
    },
    "JoyImageEditPlusTransformer3DModel": {
        "init": {
            "patch_size": [1, 2, 2],
            "in_channels": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "text_dim": 12,
            "mlp_width_ratio": 2.0,
            "num_layers": 2,
            "rope_dim_list": [4, 4, 8],
        },
        # hidden_states is pre-patchified: (B, num_patches, C, pt, ph, pw)
        "inputs": {
            "hidden_states": ("f", 2, 24, 4, 1, 2, 2),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "encoder_hidden_states_mask": ("ones", 2, 5),
            "shape_list": ("py", [[(1, 4, 6)], [(1, 4, 6)]]),
        },
    },
    "ZImageTransformer2DModel": {
        "init": {
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 12,
            "axes_dims": [4, 4, 8],
            "axes_lens": [128, 16, 16],
        },
        # lists of (C, F, H, W) and (L, cap); both streams are padded to a multiple of 32 tokens
        "inputs": {
            "x": ("list", [("f", 4, 1, 8, 12), ("f", 4, 1, 8, 12)]),
            "t": ("v", [0.5, 0.5]),
            "cap_feats": ("list", [("f", 5, 12), ("f", 5, 12)]),
        },
    },
    "Lumina2Transformer2DModel": {
        "init": {
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 32,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "multiple_of": 8,
            "axes_dim_rope": (4, 4, 8),
            "axes_lens": (32, 16, 16),
            "cap_feat_dim": 12,
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "timestep": ("v", [0.5, 0.5]),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "encoder_attention_mask": ("bones", 2, 5),
        },
    },
    "OmniGenTransformer2DModel": {
        "init": {
            "in_channels": 4,
            "patch_size": 2,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
            "num_layers": 2,
            "pad_token_id": 0,
            "vocab_size": 40,
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 64,
            "rope_scaling": {"short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
            "pos_embed_max_size": 8,
            "time_step_dim": 16,
        },
        # sequence = 5 text + 1 time token + 24 image tokens
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "timestep": ("v", [0.5, 0.5]),
            "input_ids": ("i", 40, 2, 5),
            "input_img_latents": ("py", []),
            "input_image_sizes": ("py", {}),
            "attention_mask": ("ones", 2, 30, 30),
            "position_ids": ("vi", [list(range(30))] * 2),
        },
    },
    "ErnieImageTransformer2DModel": {
        "init": {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 1,
            "text_in_dim": 12,
            "rope_axes_dim": (4, 4, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 4, 6),
            "timestep": ("v", [500.0, 500.0]),
            "text_bth": ("f", 2, 5, 12),
            "text_lens": ("vi", [5, 5]),
        },
    },
    "Ideogram4Transformer2DModel": {
        "init": {
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "adaln_dim": 8,
            "llm_features_dim": 12,
            "mrope_section": (4, 2, 2),
        },
        # one packed sequence: 5 text positions (indicator 3) then 24 image positions (indicator 2)
        "inputs": {
            "hidden_states": ("f", 2, 29, 4),
            "timestep": ("v", [0.5, 0.5]),
            "encoder_hidden_states": ("f", 2, 29, 12),
            "position_ids": ("i", 20, 2, 29, 3),
            "segment_ids": ("ones", 2, 29),
            "indicator": ("vi", [[3] * 5 + [2] * 24] * 2),
        },
    },
    "Krea2Transformer2DModel": {
        "init": {
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 32,
            "timestep_embed_dim": 16,
            "text_hidden_dim": 16,
            "num_text_layers": 2,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2,
            "text_intermediate_size": 16,
            "num_layerwise_text_blocks": 1,
            "num_refiner_text_blocks": 1,
            "axes_dims_rope": (4, 4, 8),
        },
        # encoder_hidden_states: (B, L, num_text_layers, text_hidden_dim)
        "inputs": {
            "hidden_states": ("f", 2, 24, 4),
            "encoder_hidden_states": ("f", 2, 5, 2, 16),
            "timestep": ("v", [0.5, 0.5]),
            "position_ids": ("z", 29, 3),
        },
    },
    "NucleusMoEImageTransformer2DModel": {
        "init": {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (8, 8, 16),
            "mlp_ratio": 4.0,
            "moe_enabled": False,
        },
        "inputs": {
            "hidden_states": ("f", 2, 24, 16),
            "img_shapes": ("py", [(1, 4, 6)]),
            "encoder_hidden_states": ("f", 2, 5, 32),
            "timestep": ("v", [0.5, 0.5]),
        },
    },
    "PRXTransformer2DModel": {
        "init": {
            "in_channels": 4,
            "patch_size": 2,
            "context_in_dim": 12,
            "hidden_size": 32,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 2,
            "axes_dim": [8, 8],
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 8, 12),
            "timestep": ("v", [0.5, 0.5]),
            "encoder_hidden_states": ("f", 2, 5, 12),
        },
    },
    "CogVideoXTransformer3DModel": {
        "init": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "time_embed_dim": 16,
            "text_embed_dim": 12,
            "num_layers": 2,
            "sample_width": 12,
            "sample_height": 8,
            "sample_frames": 5,
            "patch_size": 2,
            "temporal_compression_ratio": 4,
            "max_text_seq_length": 5,
        },
        # (B, F, C, H, W): 2 latent frames x 4 x 6
        "inputs": {
            "hidden_states": ("f", 2, 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "timestep": ("vi", [500, 500]),
        },
    },
    "ConsisIDTransformer3DModel": {
        "init": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "time_embed_dim": 16,
            "text_embed_dim": 12,
            "num_layers": 2,
            "sample_width": 12,
            "sample_height": 8,
            "sample_frames": 5,
            "patch_size": 2,
            "temporal_compression_ratio": 4,
            "max_text_seq_length": 5,
        },
        "inputs": {
            "hidden_states": ("f", 2, 2, 4, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "timestep": ("vi", [500, 500]),
        },
    },
    "EasyAnimateTransformer3DModel": {
        "init": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 2,
            "sample_width": 12,
            "sample_height": 8,
            "num_layers": 2,
            "mmdit_layers": 1,
            "time_embed_dim": 16,
            "text_embed_dim": 12,
            "time_position_encoding_type": "3d_rope",
        },
        # (B, C, F, H, W); layer 0 is MMDiT (separate weights), layer 1 shares weights (mmdit_layers=1)
        "inputs": {
            "hidden_states": ("f", 2, 4, 2, 8, 12),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
        },
    },
    "HunyuanVideoTransformer3DModel": {
        "init": {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "num_refiner_layers": 1,
            "mlp_ratio": 2.0,
            "patch_size": 2,
            "patch_size_t": 1,
            "guidance_embeds": True,
            "text_embed_dim": 12,
            "pooled_projection_dim": 16,
            "rope_axes_dim": (4, 4, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 2, 8, 12),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "encoder_attention_mask": ("ones", 2, 5),
            "pooled_projections": ("f", 2, 16),
            "guidance": ("v", [6000.0, 6000.0]),
        },
    },
    "HunyuanVideoFramepackTransformer3DModel": {
        "init": {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "num_refiner_layers": 1,
            "mlp_ratio": 2.0,
            "patch_size": 2,
            "patch_size_t": 1,
            "guidance_embeds": True,
            "text_embed_dim": 12,
            "pooled_projection_dim": 16,
            "rope_axes_dim": (4, 4, 8),
            "has_image_proj": True,
            "image_proj_dim": 10,
            "has_clean_x_embedder": True,
        },
        "inputs": {
            "hidden_states": ("f", 1, 4, 2, 8, 8),
            "timestep": ("v", [500.0]),
            "encoder_hidden_states": ("f", 1, 5, 12),
            "encoder_attention_mask": ("ones", 1, 5),
            "pooled_projections": ("f", 1, 16),
            "guidance": ("v", [6000.0]),
            "image_embeds": ("f", 1, 3, 10),
            "indices_latents": ("vi", [9, 10]),
            "latents_clean": ("f", 1, 4, 2, 8, 8),
            "indices_latents_clean": ("vi", [0, 1]),
            "latents_history_2x": ("f", 1, 4, 2, 8, 8),
            "indices_latents_history_2x": ("vi", [2, 3]),
            "latents_history_4x": ("f", 1, 4, 4, 8, 8),
            "indices_latents_history_4x": ("vi", [4, 5, 6, 7]),
        },
    },
    "HunyuanVideo15Transformer3DModel": {
        "init": {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "mlp_ratio": 2.0,
            "patch_size": 1,
            "patch_size_t": 1,
            "text_embed_dim": 12,
            "text_embed_2_dim": 10,
            "image_embed_dim": 8,
            "rope_axes_dim": (4, 4, 8),
        },
        # text stream = [image_embeds(2), byT5(3), MLLM(5)] reordered by validity
        "inputs": {
            "hidden_states": ("f", 2, 4, 1, 4, 6),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "encoder_attention_mask": ("ones", 2, 5),
            "encoder_hidden_states_2": ("f", 2, 3, 10),
            "encoder_attention_mask_2": ("ones", 2, 3),
            "image_embeds": ("f", 2, 2, 8),
        },
    },
    "MochiTransformer3DModel": {
        "init": {
            "patch_size": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "pooled_projection_dim": 24,
            "in_channels": 4,
            "text_embed_dim": 16,
            "time_embed_dim": 8,
            "max_sequence_length": 5,
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 2, 8, 12),
            "encoder_hidden_states": ("f", 2, 5, 16),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_attention_mask": ("bones", 2, 5),
        },
    },
    "MotifVideoTransformer3DModel": {
        "init": {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "num_decoder_layers": 1,
            "mlp_ratio": 2.0,
            "patch_size": 2,
            "patch_size_t": 1,
            "text_embed_dim": 12,
            "rope_axes_dim": (4, 4, 8),
        },
        "inputs": {
            "hidden_states": ("f", 2, 4, 2, 8, 12),
            "timestep": ("v", [500.0, 500.0]),
            "encoder_hidden_states": ("f", 2, 5, 12),
            "encoder_attention_mask": ("ones", 2, 5),
        },
    },
    "MiniMaxH3Transformer3DModel": {
        "init": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "hidden_size": 32,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "ffn_dim": 32,
            "in_channels": 4,
            "audio_in_channels": 6,
            "patch_size": (1, 2, 2),
            "text_dim": 12,
            "freq_dim": 16,
            "time_embed_hidden_dim": 16,
            "time_embed_dim": 16,
            "rope_freq_dim": 2,
        },
        # packed sequence of 33 rows: 5 text (tag 1), 24 video (tag 0), 4 audio (tag 2)
        "inputs": {
            "hidden_states": ("f", 1, 24, 16),
            "audio_hidden_states": ("f", 1, 4, 6),
            "encoder_hidden_states": ("f", 1, 5, 12),
            "timestep": ("v", [500.0]),
            "timestep_indices": ("vi", [0] * 33),
            "token_tags": ("vi", [1] * 5 + [0] * 24 + [2] * 4),
            "position_ids": ("i", 20, 33, 3),
            "video_indices": ("vi", list(range(5, 29))),
            "audio_indices": ("vi", list(range(29, 33))),
            "text_indices": ("vi", list(range(5))),
        },
    },
    "Cosmos3OmniTransformer": {
        "init": {
            "head_dim": 16,
            "hidden_size": 32,
            "intermediate_size": 32,
            "latent_channel": 4,
            "latent_patch_size": 2,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "patch_latent_dim": 16,
            "vocab_size": 40,
            "rope_axes_dim": (4, 2, 2),
        },
        # unbatched packed sequence: 5 understanding (text) + 24 generation (vision) rows
        "inputs": {
            "input_ids": ("i", 40, 5),
            "text_indexes": ("vi", [0, 1, 2, 3, 4]),
            "position_ids": ("i", 20, 3, 29),
            "und_len": ("py", 5),
            "sequence_length": ("py", 29),
            "vision_tokens": ("list", [("f", 1, 4, 1, 8, 12)]),
            "vision_token_shapes": ("py", [(1, 4, 6)]),
            "vision_sequence_indexes": ("vi", list(range(5, 29))),
            "vision_mse_loss_indexes": ("vi", list(range(5, 29))),
            "vision_timesteps": ("v", [500.0] * 24),
            "vision_noisy_frame_indexes": ("list", [("vi", [0])]),
        },
    },
    "PriorTransformer": {
        "init": {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "embedding_dim": 16,
            "num_embeddings": 5,
            "additional_embeddings": 4,
        },
        # sequence = 5 text + text-embed + time + noisy image embedding + <prd>
        "inputs": {
            "hidden_states": ("f", 2, 16),
            "timestep": ("vi", [500, 500]),
            "proj_embedding": ("f", 2, 16),
            "encoder_hidden_states": ("f", 2, 5, 16),
            "attention_mask": ("bones", 2, 5),
        },
    },
    "UniDiffuserModel": {
        "init": {
            "text_dim": 12,
            "clip_img_dim": 10,
            "num_text_tokens": 5,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "sample_size": 8,
            "patch_size": 2,
            "norm_num_groups": 4,
            "activation_fn": "gelu",
            "block_type": "unidiffuser",
            "norm_type": "layer_norm",
            "use_timestep_embedding": False,
        },
        # sequence = t_img, t_txt, 5 text, 1 CLIP-image, 16 VAE-image tokens
        "inputs": {
            "latent_image_embeds": ("f", 2, 4, 8, 8),
            "image_embeds": ("f", 2, 1, 10),
            "prompt_embeds": ("f", 2, 5, 12),
            "timestep_img": ("py", 500),
            "timestep_text": ("py", 0),
        },
    },
}


def value(spec: Any, generator: torch.Generator) -> Any:
    """Make the value that a spec describes."""
    kind, *rest = spec
    if kind == "f":
        return torch.randn(rest, generator=generator)
    if kind == "z":
        return torch.zeros(rest)
    if kind == "i":
        return torch.randint(rest[0], rest[1:], generator=generator)
    if kind == "v":
        return torch.tensor(rest[0], dtype=torch.float32)
    if kind == "vi":
        return torch.tensor(rest[0], dtype=torch.long)
    if kind == "vb":
        return torch.tensor(rest[0], dtype=torch.bool)
    if kind in ("ones", "bones"):
        return torch.ones(rest, dtype=torch.long if kind == "ones" else torch.bool)
    if kind == "list":
        return [value(each, generator) for each in rest[0]]
    if kind == "ids":
        frames, height, width, axes = rest
        grid = torch.cartesian_prod(torch.arange(frames), torch.arange(height), torch.arange(width))
        return torch.cat([grid, torch.zeros(len(grid), axes - 3, dtype=grid.dtype)], 1).float()
    return rest[0]


def inputs(name: str, seed: int = 0) -> dict[str, Any]:
    """Arguments of one forward call of the tiny model `name`."""
    generator = torch.Generator().manual_seed(seed)
    return {key: value(spec, generator) for key, spec in TINY[name]["inputs"].items()}


def model_class(name: str) -> type:
    """The diffusers class."""
    import diffusers

    if name == "UniDiffuserModel":
        from diffusers.pipelines.deprecated.unidiffuser import UniDiffuserModel

        return UniDiffuserModel
    return getattr(diffusers, name, None) or getattr(diffusers.models.transformers, name)


def build(name: str, seed: int = 0, **changes: Any) -> torch.nn.Module:
    """The tiny model with random weights, none of them zero (fresh gates and outputs of diffusers are).

    `changes` replace constructor arguments.
    """
    torch.manual_seed(seed)
    model = model_class(name)(**TINY[name]["init"] | changes).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if not bool(p.any()):
                p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return model.requires_grad_(False)
