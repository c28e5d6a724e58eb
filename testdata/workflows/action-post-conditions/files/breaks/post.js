console.log('post of what failed'); process.exit(4);
