console.log(`node post: ${process.env.STATE_word}`);
