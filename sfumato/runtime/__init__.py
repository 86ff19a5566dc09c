"""What training and sampling both stand on: checkpoints, run folders, devices, arithmetic, and several processes."""
