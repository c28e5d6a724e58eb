console.log(`post ${process.env.INPUT_NAME} ${process.env.STATE_n} ${process.env.USER_ENV}`);
