# Linear probing of ViT-S/16 by the published wide sweep: 45 learning rates, with and without weight
# decay, by SGD and by LARS.
_base_ = ['linear_vits16_100e_in1k.py']

model = dict(head=dict(weight_decays=(0.0, 1e-6), optimizers=('sgd', 'lars')))
