exports.name = "lib 2";
