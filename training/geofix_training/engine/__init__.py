"""How a network is trained, whatever it is: processes, batches, schedule, checkpoints and the loop."""
