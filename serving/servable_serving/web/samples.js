// Twenty images of Fashion-MNIST's test set, two of each class; see samples/README.md.

/** @type {[string, string][]} Label, file. */
export const samples = [
  ["T-shirt/top", "t-shirt-19"],
  ["Trouser", "trouser-2"],
  ["Pullover", "pullover-54"],
  ["Dress", "dress-215"],
  ["Coat", "coat-166"],
  ["Sandal", "sandal-82"],
  ["Shirt", "shirt-7"],
  ["Sneaker", "sneaker-12"],
  ["Bag", "bag-31"],
  ["Ankle boot", "ankle-boot-0"],
  ["T-shirt/top", "t-shirt-88"],
  ["Trouser", "trouser-15"],
  ["Pullover", "pullover-115"],
  ["Dress", "dress-91"],
  ["Coat", "coat-10"],
  ["Sandal", "sandal-8"],
  ["Shirt", "shirt-145"],
  ["Sneaker", "sneaker-22"],
  ["Bag", "bag-69"],
  ["Ankle boot", "ankle-boot-123"],
]
