console.log('after all')
