# Fine-tuning ViT-S/16 with 10 % of the labels, from the first layer of the projection head.
# Published: 75.1.
_base_ = ['semi_vits16_1000e_in1k_1percent.py']

train_dataloader = dict(dataset=dict(subset_file='data/imagenet/imagenet_subsets/10percent.txt'))
