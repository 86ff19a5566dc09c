"""The data sets of the published configurations, as specs: bring the images."""

CIFAR10 = "cifar10"
CELEBA32, CELEBA64 = "celeba?cut=140&size=32", "celeba?cut=140&size=64"
CELEBAHQ, CELEBAHQ1024 = "folder:celebahq?size=256", "folder:celebahq?size=1024"
FFHQ64, FFHQ, FFHQ1024 = "folder:ffhq?size=64", "folder:ffhq?size=256", "folder:ffhq?size=1024"
AFHQ64 = "folder:afhqv2?size=64"

BEDROOM, BEDROOM128 = "lsun:bedroom?size=256", "lsun:bedroom?size=128"
CHURCH, CHURCH96 = "lsun:church_outdoor?size=256", "lsun:church_outdoor?size=96"
TOWER128 = "lsun:tower?size=128"
CAT, HORSE = "lsun:cat?size=256", "lsun:horse?size=256"

IMAGENET64 = "imagenet?size=64"
IMAGENET128 = "imagenet?size=128"
IMAGENET256 = "imagenet?size=256"
LATENTS256, LATENTS512 = "npz:imagenet256-latents.npz", "npz:imagenet512-latents.npz"
IMAGENET512 = "imagenet?size=512"
