# A small ViT on the bundled demo data, for two CPU cores and ten minutes:
#     python tools/dataset_converters/make_demo_data.py --out data/demo
#     python tools/train.py configs/pretrain/ibot_demo.py
_base_ = ['ibot_vits16.py']
