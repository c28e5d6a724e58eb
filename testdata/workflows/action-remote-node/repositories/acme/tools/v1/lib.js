exports.name = "lib 1";
