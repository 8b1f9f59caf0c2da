# Pre-training ViT-S/16 with as many prototypes as there are classes: each is a cluster. Published:
# accuracy 43.4, NMI 78.6, ARI 32.8, FMI 35.6.
_base_ = ['../pretrain/ibot_vits16.py']

num_clusters = 1000
model = dict(neck=dict(num_prototypes=num_clusters), head=dict(num_prototypes=num_clusters))
knn, clusters = _base_.val_evaluator, dict(type='ibot_mm.ClusteringAccuracy')
val_evaluator = [knn, clusters]
test_evaluator = val_evaluator
