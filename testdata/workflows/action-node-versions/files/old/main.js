console.log("runs on " + (process.versions.node.split(".")[0] >= 20));
