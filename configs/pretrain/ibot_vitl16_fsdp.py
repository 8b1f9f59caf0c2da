# ViT-L/16 in shards: processes share weights, gradients and moments (docs/scale.md). The recipe is
# that of ViT-L/16. By judgment: bf16 in the place of the published fp16, so that no loss is scaled.
_base_ = ['ibot_vitl16.py']

model_wrapper_cfg = dict(_delete_=True, type='ibot_mm.ShardedDataParallel', param_dtype='bfloat16')
optim_wrapper = dict(dtype='bfloat16')
