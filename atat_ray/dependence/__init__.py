"""How far features depend on images or labels: HSIC and CKA, each with its permutation null."""
