"""The data sets of the published configurations, as specs: bring the images."""

CIFAR10 = "cifar10"
CELEBA32, CELEBA64 = "folder:celeba?size=32", "folder:celeba?size=64"
CELEBAHQ, CELEBAHQ1024 = "folder:celebahq?size=256", "folder:celebahq?size=1024"
FFHQ64, FFHQ, FFHQ1024 = "folder:ffhq?size=64", "folder:ffhq?size=256", "folder:ffhq?size=1024"
AFHQ64 = "folder:afhqv2?size=64"

BEDROOM, BEDROOM128 = "folder:lsun/bedroom?size=256", "folder:lsun/bedroom?size=128"
CHURCH, CHURCH96 = "folder:lsun/church?size=256", "folder:lsun/church?size=96"
TOWER128 = "folder:lsun/tower?size=128"
CAT, HORSE = "folder:lsun/cat?size=256", "folder:lsun/horse?size=256"

IMAGENET64 = "folder:imagenet/train?size=64"
IMAGENET128 = "folder:imagenet/train?size=128"
IMAGENET256 = "folder:imagenet/train?size=256"
LATENTS256, LATENTS512 = "npz:imagenet256-latents.npz", "npz:imagenet512-latents.npz"
IMAGENET512 = "folder:imagenet/train?size=512"
