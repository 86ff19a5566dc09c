"""What a model needs and how fast it is: parameters, operations, memory and throughput, before anything long begins."""
