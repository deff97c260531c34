"""Statistical dependence between features and images: HSIC and CKA with permutation nulls."""
