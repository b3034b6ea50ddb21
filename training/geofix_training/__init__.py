"""From images to a bundle: the only part of geofix that needs torch.

- `commands`, `stages/`: `geofix-train partition | classifier | embedder | calibrate | export`, one module a stage;
  `experiment` is their YAML.
- `data/`: manifests, shards and features, indexed on disk. `engine/`: the training loop, its checkpoints and processes.
- `heads`, `networks`, `partition`, `export`, `gallery_file`: what the stages are made of.
- `imports`, `imported`, `weights`: published weights as bundles; `import_swc`, `published`; `import_geoclip`, `geoclip`, `clip`.
- `orbit` and what it alone uses (`raster`, `crops`, `damage`, `features`, `reduction`, `fit_heads` and others): the demo bundle.
"""
