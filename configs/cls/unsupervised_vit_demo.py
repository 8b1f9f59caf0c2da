# configs/pretrain/ibot_vit_demo.py with as many prototypes as classes, each a cluster.
_base_ = ['../pretrain/ibot_vit_demo.py']

num_clusters = 10
model = dict(neck=dict(num_prototypes=num_clusters), head=dict(num_prototypes=num_clusters))
knn, clusters = _base_.val_evaluator, dict(type='ibot_mm.ClusteringAccuracy')
val_evaluator = [knn, clusters]
test_evaluator = val_evaluator
